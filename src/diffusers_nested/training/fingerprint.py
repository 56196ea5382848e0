"""Everything that determines the steps of a run, as values that a checkpoint can store and a resumed run compare.

Models and training sets are represented by digests. Those of models cover the configuration, the names and shapes of
all tensors, and at least 1024 evenly spread numbers of each. Those of training sets cover all captions, the sizes of
all pictures, and the content of at least 256 evenly spread pairs of pictures.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..adapter import NestedAdapter
from ..backbones import backbone_of
from ..data import PackedPicture, ShardFolder, Triplets, each
from ..errors import NestedAdapterError
from ..files.rules import as_plain
from ..images import check_whole
from ..pipelines.state import inner_unet
from ..vision import ImageEncoder, ImageEncoders, numbered
from .config import NOT_OF_A_RUN, TrainingConfig
from .noise import training_scheduler

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_NUMBERS = 1024  # of each tensor, at least
_PICTURES = 256  # inputs, and as many targets, at least
_CHUNK = 1 << 20  # bytes
# depends on the versions of libraries, or on how a model was loaded
_INCIDENTAL = {"transformers_version", "dtype", "torch_dtype", "architectures", "processor_class"}


def settings_of(
    pipeline: Any,
    image_encoder: ImageEncoder | ImageEncoders,
    adapter: NestedAdapter,
    dataset: Triplets,
    validation_dataset: Triplets | None,
    config: TrainingConfig,
    processes: int,
) -> dict[str, Any]:
    """Everything that a run depends on, by name.

    Models have a dict of digests, one per ``mixed_precision``: of their weights as they are after that cast.

    Raises:
        NestedAdapterError: A picture does not exist or cannot be read.
    """
    unet = inner_unet(pipeline)
    backbone = backbone_of(unet)
    models = {"unet": unet, "vae": pipeline.vae, **backbone.text_encoders_of(pipeline)}
    towers = {number: part for number, part in enumerate(image_encoder.parts, 1)}
    models |= {numbered("image_encoder", number): part.model for number, part in towers.items()}
    processors = {numbered("image_processor", number): part.processor for number, part in towers.items()}
    tokenizers = dict(zip(backbone.tokenizers, backbone.tokenizers_of(pipeline), strict=True))
    return {
        **{field.name: _plain(getattr(config, field.name)) for field in fields(config) if _is_of_run(field.name)},
        "processes": processes,
        **{f"adapter.{name}": as_plain(value) for name, value in adapter.config.items() if not name.startswith("_")},
        **{name: _model(model) for name, model in models.items()},
        **{name: _digest(one.get_vocab()) for name, one in tokenizers.items() if one is not None},
        **{name: _digest(_content(_values(one))) for name, one in processors.items()},
        "noise_schedule": _noise_schedule(pipeline),
        "force_zeros_for_empty_prompt": bool(pipeline.config.get("force_zeros_for_empty_prompt", True)),
        "dataset": digest_of(dataset),
        "validation_dataset": None if validation_dataset is None else digest_of(validation_dataset),
    }


def _is_of_run(name: str) -> bool:
    return name not in NOT_OF_A_RUN


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _model(model: Any) -> dict[str, str]:
    """Digest per precision."""
    content = _content(_values(model.config))
    return {
        name: f"{type(model).__name__} {_digest(content, *_weights(model, dtype))}" for name, dtype in DTYPES.items()
    }


def _weights(model: nn.Module, dtype: torch.dtype) -> Iterator[bytes]:
    for name, tensor in sorted(model.state_dict().items()):
        yield f"{name} {tuple(tensor.shape)}".encode()
        numbers = tensor.detach().reshape(-1)[:: max(1, tensor.numel() // _NUMBERS)]
        yield _bytes(numbers.to(dtype) if numbers.is_floating_point() else numbers)


def _values(config: Any) -> dict[str, Any]:
    """A configuration of diffusers or transformers as a dict."""
    return config.to_dict() if hasattr(config, "to_dict") else dict(config)


def _content(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that matter; unset ones are left out, as later versions may have more of them."""
    kept = {name: value for name, value in config.items() if value is not None and value is not False}
    return {name: value for name, value in kept.items() if name not in _INCIDENTAL and not name.startswith("_")}


def _noise_schedule(pipeline: Any) -> str:
    scheduler = training_scheduler(pipeline.scheduler)
    kind: Any = scheduler.config
    return f"{kind['prediction_type']} {_digest(_bytes(scheduler.alphas_cumprod))}"


def digest_of(triplets: Triplets) -> str:
    """The digest of a training set; every file is looked at.

    Raises:
        NestedAdapterError: A picture does not exist, or its file is cut off or no picture.
    """
    step = max(1, len(triplets) // _PICTURES)
    digest = hashlib.blake2b(digest_size=8)
    if isinstance(triplets, ShardFolder):  # whose index tells more than a part of the pictures
        digest.update("".join(triplets.checksums).encode())
    for number, triplet in enumerate(each(triplets)):
        digest.update(f"{len(triplet.text)} {triplet.text}".encode())
        digest.update("".join(f"{len(word)} {word}" for word in triplet.photos if word is not None).encode())
        for image in (*triplet.photos.values(), triplet.target_image):
            try:
                digest.update(_size(image))
                for part in _picture(image) if number % step == 0 else ():
                    digest.update(part)
            except OSError as error:
                raise NestedAdapterError(f"Triplet {number}: cannot read {image}: {error.strerror}.") from error
    return f"{len(triplets)} triplets {digest.hexdigest()}"


def _size(image: Any) -> bytes:
    if isinstance(image, str | Path):
        size = Path(image).stat().st_size
        if not size:
            raise NestedAdapterError(f"{image} is an empty file. Give the picture, or leave its example out.")
        check_whole(image)  # now, as a picture that is mended later makes another training set
        return str(size).encode()
    if isinstance(image, PackedPicture):
        return str(image.length).encode()
    if isinstance(image, Image.Image):
        return f"{image.mode} {image.size}".encode()
    return str(getattr(image, "shape", "")).encode()


def _picture(image: Any) -> Iterator[bytes]:
    if isinstance(image, str | Path):
        with Path(image).open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    elif isinstance(image, PackedPicture):
        yield image.read()
    elif isinstance(image, Tensor):
        yield _bytes(image)
    elif hasattr(image, "tobytes"):
        yield image.tobytes()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _digest(*parts: Any) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()
