"""``NestedAdapter.push_to_hub``: an adapter in memory, with what belongs to it, as a repository."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..adapter import NestedAdapter
from ..errors import PublishError, SubjectError
from ..images import open_photo
from ..vision import load_vision_tower
from ..vision.encoder import ImageEncoder, to_pil
from .publish import publish
from .scores import EVALUATION, check_evaluation


def push_to_hub(
    adapter: NestedAdapter,
    repo_id: str,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    create_pr: bool = False,
    safe_serialization: bool = True,
    variant: str | None = None,
    subfolder: str | None = None,
    *,
    image_encoder: ImageEncoder | str | Path | None = None,
    revision: str | None = None,
    evaluation: Mapping[str, Any] | None = None,
    sample_images: Sequence[Any] = (),
    base_model: str | None = None,
    license: str | None = None,
) -> str:
    """Publish an adapter on the Hub with its image encoder and a model card; ``adapter.push_to_hub(repo_id, ...)``.

    The first keywords are those of diffusers' models. See ``publish`` for what is checked and uploaded.

    Args:
        adapter: What is published.
        repo_id: ``user/name``; made if there is none.
        commit_message: Of the one commit.
        private: Whether a new repository is private.
        token: Access token with the right to write; by default the one of ``hf auth login``.
        create_pr: Ask the owner to merge it instead of writing to the branch.
        safe_serialization: Only True: adapters are read as safetensors alone.
        variant: Such as ``"fp16"``: names the file of the weights; it does not convert them. Weights of other variants
            in the repository go: to have several, save them into one folder and ``publish`` that.
        subfolder: Where the adapter goes in the repository; by default, its top.
        image_encoder: The vision tower that it reads, with its preprocessing: in memory, or as ``load_vision_tower``
            takes it. It may be left out if the adapter's config names one on the Hub.
        revision: Branch; made if there is none. By default main.
        evaluation: How it was measured; see ``evaluation.json`` in the documentation.
        sample_images: Pictures for the card: images, or paths.
        base_model: Repository of the pipeline that it was trained on; by default the card's, or SDXL or
            Stable Diffusion 1.5 for an adapter of its size.
        license: Identifier of a licence, such as ``"apache-2.0"``; by default the card's.

    Returns:
        The address of the commit or of the pull request.

    Raises:
        PublishError: Something does not fit, or the Hub refuses; nothing has been published then.
    """
    if not safe_serialization:
        raise PublishError("Adapters are published as safetensors only. Leave out safe_serialization=False.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        adapter.save_pretrained(folder, variant=variant)
        if image_encoder is not None:
            _save_encoder(image_encoder, folder)
        if evaluation is not None:
            (folder / EVALUATION).write_text(_as_json(evaluation), encoding="utf-8")
        _save_pictures(sample_images, folder / "samples")
        return publish(
            folder,
            repo_id,
            commit_message=commit_message,
            private=private,
            token=token,
            create_pr=create_pr,
            revision=revision,
            subfolder=subfolder,
            base_model=base_model,
            license=license,
        )


def _as_json(evaluation: Mapping[str, Any]) -> str:
    checked = check_evaluation(evaluation, "evaluation")
    try:
        return json.dumps(checked, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise PublishError(
            f"evaluation cannot be written as JSON ({error}). Give texts, numbers, lists and dicts of these."
        ) from error


def _save_encoder(image_encoder: ImageEncoder | str | Path, folder: Path) -> None:
    encoder = image_encoder if isinstance(image_encoder, ImageEncoder) else load_vision_tower(str(image_encoder))
    encoder.model.save_pretrained(folder / "image_encoder")
    encoder.processor.save_pretrained(folder / "feature_extractor")


def _save_pictures(images: Sequence[Any], folder: Path) -> None:
    for number, image in enumerate(images, 1):
        folder.mkdir(exist_ok=True)
        _as_picture(image).save(folder / f"{number:02}.png")


def _as_picture(image: Any) -> Image.Image:
    if not isinstance(image, str | Path):
        return to_pil(image)
    if not Path(image).is_file():
        raise PublishError(f"The sample image {image} is no file. Give the path of a picture.")
    try:
        opened = open_photo(image)
    except SubjectError as error:
        raise PublishError(f"The sample image cannot be used. {error}") from error
    return opened if opened.mode in ("RGB", "RGBA", "L") else to_pil(opened)
