"""What an adapter is, without loading its weights."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError, NotASafetensorsRepoError, SafetensorsParsingError

from ..adapter import NestedAdapter
from ..errors import AdapterLoadError
from ..safe_files import read_header
from .source import Source


@dataclass(frozen=True)
class WeightFile:
    """A file of weights.

    Attributes:
        name: Its path within the adapter's folder.
        size: Its bytes; None if the Hub does not say.
        parameters: Number of parameters by type, such as ``{"F16": 475_890}``; None if the header cannot be had.
    """

    name: str
    size: int | None
    parameters: dict[str, int] | None


@dataclass(frozen=True)
class Inspection:
    """What is known of an adapter.

    Attributes:
        adapter: The adapter on the meta device: its ``config``, and tensors that take no memory.
        files: Its files of weights, those of its image encoder included.
        is_complete: Whether ``files`` are all that the source has, and not only those that were downloaded.
    """

    adapter: NestedAdapter
    files: tuple[WeightFile, ...]
    is_complete: bool

    @property
    def has_image_encoder(self) -> bool:
        """Whether it brings its own."""
        return any(file.name.startswith("image_encoder/") for file in self.files)


def inspect_adapter(source: Source) -> Inspection:
    """Read an adapter's configuration, and what its files of weights say of themselves.

    Args:
        source: Where it is. Of a repository only config.json is downloaded, and the headers of the weights.

    Raises:
        AdapterLoadError: It is not an adapter that this version reads, or a header of a folder's file is damaged.
    """
    path = source.find("/".join(filter(None, (source.subfolder, "config.json"))))
    if path is None:
        raise AdapterLoadError(
            f"{source.location} has no config.json. Name a folder or repository of an adapter, and the folder within "
            "it as --subfolder."
        )
    adapter = NestedAdapter.from_config_file(path, source.location)
    if Path(source.location).is_dir():
        return Inspection(adapter, _files_in(path.parent), is_complete=True)
    try:
        return Inspection(adapter, _files_on_hub(source), is_complete=True)
    except (HTTPError, OSError):  # the config came from the cache: say what else is there
        return Inspection(adapter, _files_in(path.parent), is_complete=False)


def _files_in(folder: Path) -> tuple[WeightFile, ...]:
    paths = sorted([*folder.glob("*.safetensors"), *folder.glob("image_encoder/*.safetensors")])
    return tuple(_file_in(path, str(path.relative_to(folder).as_posix())) for path in paths)


def _file_in(path: Path, name: str) -> WeightFile:
    counts: Counter[str] = Counter()
    for tensor in read_header(path).values():
        counts[tensor.dtype] += tensor.numel
    return WeightFile(name, path.stat().st_size, dict(counts))


def _files_on_hub(source: Source) -> tuple[WeightFile, ...]:
    api = HfApi(token=source.token)
    info = api.model_info(source.location, revision=source.revision, files_metadata=True)
    prefix = f"{source.subfolder}/" if source.subfolder else ""
    sizes = {file.rfilename: file.size for file in info.siblings or () if file.rfilename.startswith(prefix)}
    names = {name.removeprefix(prefix): size for name, size in sizes.items() if name.endswith(".safetensors")}
    ours = sorted(name for name in names if name.split("/")[:-1] in ([], ["image_encoder"]))
    return tuple(WeightFile(name, names[name], _counts_on_hub(api, source, prefix + name)) for name in ours)


def _counts_on_hub(api: HfApi, source: Source, name: str) -> dict[str, int] | None:
    try:
        header = api.parse_safetensors_file_metadata(source.location, name, revision=source.revision)
    except (HTTPError, OSError, ValueError, KeyError, TypeError, NotASafetensorsRepoError, SafetensorsParsingError):
        return None  # it is the server's and the file's to answer; their sizes are known all the same
    return {str(dtype): count for dtype, count in header.parameter_count.items()}
