"""Similarities in the embedding spaces of published models of transformers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, CLIPModel, CLIPTokenizer, CLIPVisionModelWithProjection

from ...errors import NestedAdapterError
from ..references import Reference
from ..shots import Shot
from .base import Metric, Scores

CLIP, DINO = "openai/clip-vit-large-patch14", "facebook/dino-vits16"


class ClipText(Metric):
    """Cosine of CLIP's embeddings of picture and prompt (CLIP-T).

    Args:
        name: Column of the results.
        model: Repository or folder of a ``CLIPModel`` with its tokenizer and image processor.
    """

    def __init__(self, name: str, model: str = CLIP) -> None:
        super().__init__(name)
        self._model: Any = _loaded(name, CLIPModel, model).eval()
        self._tokenizer: Any = _loaded(name, CLIPTokenizer, model)
        self._processor = _processor(name, model)

    def to(self, device: str) -> None:
        """Move the model to a device."""
        self._model.to(device)

    @torch.no_grad()
    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """Compute the cosines; prompts are truncated to the length of the text encoder."""
        pixels = _pixels(self._processor, pictures, self._model)
        length = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            [shot.prompt for shot in shots], padding=True, truncation=True, max_length=length, return_tensors="pt"
        ).to(self._model.device)
        seen = F.normalize(self._model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)  # (B, D)
        read = F.normalize(self._model.get_text_features(**tokens).pooler_output, dim=-1)  # (B, D)
        return [{self.name: float(value)} for value in (seen * read).sum(-1)]


class ImageSimilarity(Metric):
    """Cosine of the embeddings of picture and photos, the mean over the photos.

    It compares whole pictures, background and style included: use it for pets and objects, not for faces.

    Args:
        name: Column of the results.
        model: A vision model of transformers.
        processor: Its image processor.
        read: Gets embeddings (B, D) from the model's output.
        word: Whose photos to use if prompts contain several subjects.
    """

    def __init__(
        self, name: str, model: Any, processor: Any, read: Callable[[Any], Tensor], word: str | None = None
    ) -> None:
        super().__init__(name)
        self._model = model.eval()
        self._processor = processor
        self._read = read
        self._word = word
        self._known: dict[str, Tensor] = {}

    def to(self, device: str) -> None:
        """Move the model to a device."""
        self._model.to(device)

    def check(self, references: Sequence[Reference]) -> None:
        """Embed all photos."""
        self._known = {one.name: self._embed(one.photos(self._word)) for one in references}

    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """Compute the similarities."""
        known = [self._known[shot.reference.name] for shot in shots]  # each (photos, D)
        pairs = zip(self._embed(pictures), known, strict=True)
        return [{self.name: float((photos @ picture).mean())} for picture, photos in pairs]

    @torch.no_grad()
    def _embed(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Embeddings of length one (B, D)."""
        output = self._model(pixel_values=_pixels(self._processor, pictures, self._model))
        return F.normalize(self._read(output), dim=-1)


def clip_image(name: str, model: str = CLIP, word: str | None = None) -> ImageSimilarity:
    """Image similarity in CLIP's projected embeddings (CLIP-I)."""
    loaded = _loaded(name, CLIPVisionModelWithProjection, model)
    return ImageSimilarity(name, loaded, _processor(name, model), lambda output: output.image_embeds, word)


def dino(name: str, model: str = DINO, word: str | None = None) -> ImageSimilarity:
    """Image similarity in the class tokens of a DINO or DINOv2."""
    loaded = _loaded(name, AutoModel, model)
    return ImageSimilarity(name, loaded, _processor(name, model), lambda out: out.last_hidden_state[:, 0], word)


def _loaded(name: str, cls: Any, model: str, **options: Any) -> Any:
    try:
        return cls.from_pretrained(model, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise NestedAdapterError(
            f"metrics.{name}: {model!r} cannot be loaded as a {cls.__name__}: {error}. Name a repository or a folder "
            "that holds one."
        ) from error


def _processor(name: str, model: str) -> Any:
    return _loaded(name, AutoImageProcessor, model, backend="pil")  # needs no torchvision


def _pixels(processor: Any, pictures: Sequence[Image.Image], model: Any) -> Tensor:
    pixels = processor(images=list(pictures), return_tensors="pt").pixel_values
    return pixels.to(model.device, model.dtype)
