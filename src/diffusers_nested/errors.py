"""The package's errors. Each message says what went wrong, what was given, what was expected, and what to do."""

from enum import Enum


class Remedy(Enum):
    """The remedy in a message, in terms of Python; the command line replaces it with its own wording."""

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
    SUBFOLDER = "Name a folder or repository that holds one, and pass the folder within it as subfolder=..."
    CONFIG = (
        "Name a folder or repository with one at its top, or its folder as subfolder=...; of an IP-Adapter, which has "
        "none, name the file as weight_name=..."
    )
    FROM_IP_ADAPTER = "The file of an IP-Adapter is loaded with NestedAdapter.from_ip_adapter."
    WEIGHTS = (
        "Check variant=... and weight_name=..., and that the weights were saved as safetensors: no other format is "
        "read."
    )

    def __str__(self) -> str:
        return self.value


class NestedAdapterError(ValueError):
    """Base of every error that the package raises for bad input."""


class DependencyError(NestedAdapterError, ImportError):
    """A required package is missing or too old."""


class AdapterLoadError(NestedAdapterError):
    """An adapter cannot be loaded: its files are missing or damaged, or it was made for another UNet."""


class DownloadError(AdapterLoadError, OSError):
    """A file cannot be had from the Hub: no such repository, no right to read it, or no connection."""


class PublishError(NestedAdapterError):
    """An adapter cannot be published: it is incomplete, its description lacks something, or the Hub refuses it."""


class PromptTokenError(NestedAdapterError):
    """The word of a subject cannot be placed in the prompt."""


class SubjectError(NestedAdapterError):
    """The images, embeddings, weights or names given for a subject cannot be used."""


class FaceNotFoundError(SubjectError):
    """No face is found in an image that should show one."""


class ScaleError(NestedAdapterError):
    """A scale is not a finite number of at least 0, or names an unknown adapter or block."""


class ProcessorReplacedError(NestedAdapterError):
    """Something replaced the adapter's attention processors after it was loaded."""


class RowsNotFoundError(NestedAdapterError):
    """None of the rows that reached the UNet holds the prompt's embeddings."""
