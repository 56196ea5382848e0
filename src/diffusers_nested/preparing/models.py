"""Models of transformers that are on this machine: they find subjects, and write captions. Nothing is downloaded."""

import hashlib
import re
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    VisionEncoderDecoderModel,
    pipeline,
)

from ..errors import NestedAdapterError
from .words import SubjectWord

_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_WEIGHTS = {**_LOCAL, "use_safetensors": True}
_TOKENS = 60  # of a caption; the text encoders read 77


class Segmenter:
    """Masks of what a segmentation model takes for the subject: classes whose label is one of the nouns.

    A model that knows only one class beside the background finds the subject by that one.

    Args:
        name: Folder or cached repository.
        word: Knows the nouns.
        device: Where it computes.

    Raises:
        NestedAdapterError: There is no such model, it does not find masks, or none of its classes is the subject.
    """

    def __init__(self, name: str, word: SubjectWord, device: str) -> None:
        processor = _processor("segmenter", name)
        self._run: Any = _loaded("segmenter", _segmentation, name, image_processor=processor, device=device)
        _check_segments(self._run, name)
        labels = self._run.model.config.id2label
        self._wanted = {label for label in labels.values() if word.means(label)} or _foreground(labels)
        if not self._wanted:
            raise NestedAdapterError(
                f"segmenter {name} knows {len(labels)} classes, such as {', '.join(list(labels.values())[:5])}, but "
                "none of the nouns. Give nouns that are among them, or name another segmenter."
            )
        self.digest = _digest(self._run.model, processor)

    def find(self, picture: Image.Image) -> list[Image.Image]:
        """Masks ("L", 0 or 255) of the subjects in an RGB picture."""
        with torch.inference_mode():
            return [one["mask"] for one in self._run(picture) if one["label"] in self._wanted]


class Captioner:
    """Captions by a model such as BLIP, GIT or a vision encoder with a text decoder, always the likeliest word next.

    Args:
        name: Folder or cached repository.
        device: Where it computes.

    Raises:
        NestedAdapterError: There is no such model.
    """

    def __init__(self, name: str, device: str) -> None:
        self._processor = _processor("captioner", name)
        self._tokenizer: Any = _loaded("captioner", AutoTokenizer.from_pretrained, name, **_LOCAL)
        config = _loaded("captioner", AutoConfig.from_pretrained, name, **_LOCAL)
        is_pair = config.model_type == "vision-encoder-decoder"
        kind = VisionEncoderDecoderModel if is_pair else AutoModelForImageTextToText
        self._model: Any = _loaded("captioner", kind.from_pretrained, name, **_WEIGHTS).eval().to(device)
        self.digest = _digest(self._model, self._processor)

    @torch.inference_mode()
    def caption(self, picture: Image.Image) -> str:
        """Caption of an RGB picture."""
        inputs = self._processor(images=picture, return_tensors="pt").to(self._model.device, self._model.dtype)
        tokens = self._model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=_TOKENS)
        return " ".join(self._tokenizer.batch_decode(tokens, skip_special_tokens=True)[0].split())


def _segmentation(name: str, **settings: Any) -> Any:
    return pipeline("image-segmentation", model=name, **_LOCAL, model_kwargs={"use_safetensors": True}, **settings)


def _check_segments(run: Any, name: str) -> None:
    """Raise unless a model finds masks, tried on a grey picture, with weights that it was saved with."""
    saved = run.model.config.architectures or []
    is_whole = type(run.model).__name__ in saved  # otherwise transformers has made up what is missing
    try:
        masks = run(Image.new("RGB", (64, 64), "grey")) if is_whole else None
    except (ValueError, TypeError, RuntimeError, AttributeError):
        masks = None
    if masks is None:
        raise NestedAdapterError(
            f"segmenter {name} is a {' or '.join(saved) or 'model'}, expected one that finds the masks of its classes "
            "in a picture, by semantic, instance or panoptic segmentation. Name such a model of transformers, with its "
            "preprocessor_config.json."
        )


def _foreground(labels: dict[int, str]) -> set[str]:
    """The class of a model that knows only one beside the background."""
    others = {label for number, label in labels.items() if number and label.lower() != "background"}
    return others if len(labels) <= 2 else set()


def _processor(setting: str, name: str) -> Any:
    return _loaded(setting, AutoImageProcessor.from_pretrained, name, **_LOCAL, backend="pil")  # needs no torchvision


def _loaded(setting: str, load: Any, name: str, **settings: Any) -> Any:
    try:
        return load(name, **settings)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = re.split(r"\n|\. ", str(error).strip(), maxsplit=1)[0].rstrip(".")
        raise NestedAdapterError(
            f"{setting} {name} cannot be loaded: {reason}. Name the folder of such a model of transformers, or a "
            "repository that has been downloaded; nothing is downloaded here."
        ) from error


def _digest(model: Any, processor: Any) -> str:
    """Short text that is the same for the same weights and settings."""
    digest = hashlib.blake2b(repr(processor).encode(), digest_size=8)
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
