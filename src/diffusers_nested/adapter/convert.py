"""An IP-Adapter's file as a folder of our format, to be inspected, published and loaded like any other adapter."""

import logging
import os
from pathlib import Path
from typing import Any

from ..errors import AdapterLoadError, NestedAdapterError
from ..files import check_repository, shown
from ..files.source import Source
from ..files.write_whole import write_whole
from ..publishing import save_parts
from ..publishing.quoting import markdown_text
from ..vision import OWN_FOLDER, ImageEncoder, find_image_encoders, load_image_encoder, locate_image_encoder
from .locate import find_ip_adapter
from .model import NestedAdapter

_CARD = """# {title}

An [IP-Adapter](https://arxiv.org/abs/2308.06721) as an adapter of diffusers-nested: a photo becomes the word \
"{word}" of a prompt.

## Training data

The weights are those of {origin}, converted and not trained any further: what they were trained on, and the terms for \
using them, are the same.
"""
logger = logging.getLogger(__name__)


def convert_ip_adapter(
    source: Source,
    weight_name: str | None,
    output: Path,
    image_encoder_folder: str = OWN_FOLDER,
    **config: Any,
) -> NestedAdapter:
    """Write an IP-Adapter as a folder of our format, all of it or nothing.

    The weights keep their type. An image encoder in a folder of this machine is copied; one on the Hub is named in the
    config.

    Args:
        source: Where the IP-Adapter is.
        weight_name: Name of its file.
        output: The new folder.
        image_encoder_folder: Folder of the image encoder, as in ``load_nested_adapter``.
        **config: Settings that the weights leave open; see ``NestedAdapter.from_ip_adapter``.

    Returns:
        The adapter.

    Raises:
        AdapterLoadError: It is no IP-Adapter that is supported, is damaged, or its image encoder does not fit.
        NestedAdapterError: A setting is out of range, or there is something at the output already.
        OSError: The folder cannot be written.
    """
    output = Path(os.path.abspath(output))  # "." has no name
    _check_output(output)
    found = find_ip_adapter(source, weight_name)
    if found is None:
        if not source.is_folder:
            check_repository(source.location)  # says so if it cannot be one
        raise AdapterLoadError(
            f"{source.location} is not the file of an IP-Adapter, and an adapter of diffusers-nested needs no "
            "conversion. Give the file's path, or its name as weight_name=..."
        )
    source, path = found
    adapter = NestedAdapter.from_ip_file(source, path, torch_dtype=None, **config)
    encoder = _image_encoder(adapter, source, image_encoder_folder)

    def write(folder: Path) -> None:
        adapter.save_pretrained(folder)
        save_parts(folder, encoder, None, ())
        card = _CARD.format(
            title=markdown_text(output.name),
            word=markdown_text(adapter.config["subject_token"]),
            origin=_origin(source, path.name),
        )
        (folder / "README.md").write_text(card, encoding="utf-8")

    write_whole(output, write)
    return adapter


def _check_output(output: Path) -> None:
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise NestedAdapterError(f"{output} exists already. Name a folder that does not.")
    if not output.parent.is_dir():
        raise NestedAdapterError(f"There is no folder {shown(str(output.parent))} for {output.name}. Create it first.")


def _image_encoder(adapter: NestedAdapter, source: Source, folder: str) -> ImageEncoder | None:
    """The image encoder to copy; None if the config names it, which is then the one that was found."""
    tower = locate_image_encoder(adapter.config, source, folder, is_ip_adapter=True)
    if tower is None:
        logger.warning("no image encoder found: put it into image_encoder/ of the new folder, or give embeddings")
        return None
    if tower.source is not source:
        return None  # the published one that fits, which need not be at hand
    (tower,) = find_image_encoders(adapter.config, source, folder, adapter.image_features, is_ip_adapter=True)
    adapter.register_to_config(image_encoder=None if source.is_folder else tower.place)
    return load_image_encoder(tower) if source.is_folder else None


def _origin(source: Source, name: str) -> str:
    """The file, for a reader of the card on another machine."""
    file = f"`{name}`" if "`" not in name else markdown_text(name)
    if source.is_folder:
        return file
    return f"{file} of [{markdown_text(source.location)}](https://huggingface.co/{source.location})"
