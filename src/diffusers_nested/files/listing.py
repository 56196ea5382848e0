"""Facts about the files of a repository, without downloading them."""

from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError, NotASafetensorsRepoError, SafetensorsParsingError

from ..errors import AdapterLoadError
from .failures import download_errors
from .headers import TensorInfo
from .source import Source

# what huggingface_hub raises while parsing an invalid header
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    NotASafetensorsRepoError,
    SafetensorsParsingError,
)


def file_sizes(source: Source) -> dict[str, int | None]:
    """All files of a repository -> their sizes in bytes; None where the Hub gives no size.

    Raises:
        DownloadError: The Hub cannot be reached.
    """
    with download_errors(source.location, "the list of files", source.revision):
        info = HfApi(token=source.token).model_info(source.location, revision=source.revision, files_metadata=True)
    return {file.rfilename: file.size for file in info.siblings or ()}


def remote_header(source: Source, filename: str) -> dict[str, TensorInfo] | None:
    """The tensors of a file of weights, read from its header; None if the Hub does not provide it.

    Raises:
        AdapterLoadError: It is not a safetensors file.
    """
    api: Any = HfApi(token=source.token)
    try:
        header = api.parse_safetensors_file_metadata(source.location, filename, revision=source.revision)
        return {name: TensorInfo(str(one.dtype), tuple(one.shape)) for name, one in header.tensors.items()}
    except (HTTPError, OSError):
        return None
    except _UNREADABLE as error:
        raise AdapterLoadError(
            f"{filename} of {source.location} is not a whole safetensors file ({type(error).__name__}: {error}). Its "
            "owner must publish it again."
        ) from error
