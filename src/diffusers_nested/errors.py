"""The errors of the package: each says what, the value got, what was expected, and what to do."""


class NestedAdapterError(ValueError):
    """Base of every error that the package raises for bad input."""


class DependencyError(NestedAdapterError, ImportError):
    """A package that this one needs is not installed, or its version is too old."""


class AdapterLoadError(NestedAdapterError):
    """An adapter cannot be loaded: files missing or damaged, or made for another UNet."""


class PublishError(NestedAdapterError):
    """An adapter cannot be published: it is not whole, something about it is not said, or the Hub refuses it."""


class PromptTokenError(NestedAdapterError):
    """The word of a subject cannot be placed in the prompt."""


class SubjectError(NestedAdapterError):
    """What was given as a subject (images, embeddings, weights, names) cannot be used."""


class ScaleError(NestedAdapterError):
    """A scale is not a finite number of at least 0, or names an unknown adapter or block."""


class ProcessorReplacedError(NestedAdapterError):
    """Something replaced the adapter's attention processors after it was loaded."""


class RowsNotFoundError(NestedAdapterError):
    """The prompt's embeddings were not found among the rows that reached the UNet."""
