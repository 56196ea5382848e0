"""The errors of the package: each says what, the value got, what was expected, and what to do."""

from enum import Enum


class Remedy(Enum):
    """What to do, in words of Python, as a part of a message: the command line puts words of its own in its place."""

    ANOTHER_WORD = (
        "Write it there as a whole word, or name a word that is there: nested_adapter_token, the key of the dict of "
        "images, or Subject(token=...)."
    )
    ADAPTER_OF_SUBJECT = (
        "Give a dict of word -> image(s) with words of the adapters, or Subject(adapter_name=...) to use any other "
        "word."
    )
    ADAPTER_NAME = "Pass another adapter_name=..., or unload it first with unload_nested_adapter."
    NO_IMAGE_ENCODER = "Or pass image_encoder_folder=None and give `nested_adapter_image_embeds`."
    SUBFOLDER = "Name a folder or repository that holds one, and the folder within it as subfolder=..."
    WEIGHTS = (
        "Check variant=... and weight_name=..., and that the weights were saved as safetensors: no other format is "
        "read."
    )

    def __str__(self) -> str:
        return self.value


class NestedAdapterError(ValueError):
    """Base of every error that the package raises for bad input."""


class DependencyError(NestedAdapterError, ImportError):
    """A package that this one needs is not installed, or its version is too old."""


class AdapterLoadError(NestedAdapterError):
    """An adapter cannot be loaded: files missing or damaged, or made for another UNet."""


class DownloadError(AdapterLoadError, OSError):
    """A file cannot be had from the Hub: no such repository, no right to read it, or no connection."""


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
