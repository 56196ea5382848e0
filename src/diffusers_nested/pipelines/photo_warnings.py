"""Warnings of photos that are not what an adapter was trained on."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ..adapter.checks import ALIGNED_FACE
from ..errors import DependencyError
from ..images import to_pil
from ..images.landmarks import face_finder

logger = logging.getLogger(__name__)


def warn_of_photos(adapter: str, config: Mapping[str, Any], images: Sequence[Any]) -> None:
    """Warn once of photos without a face, if the adapter was trained on aligned faces and faces can be found here.

    Args:
        adapter: Its name, for the message.
        config: Its settings.
        images: Photos of a subject, checked.
    """
    if config.get("image_preparation") != ALIGNED_FACE or not images:
        return
    try:
        finder = face_finder()
    except DependencyError:
        return
    without = [number for number, image in enumerate(images, 1) if not finder.find(to_pil(image))]
    if without:
        logger.warning(
            "The adapter %r was trained on aligned faces, but no face was found in photo %s of %d. Give a photo of a "
            "face, cropped with diffusers_nested.prepare_face(photo).",
            adapter,
            ", ".join(map(str, without)),
            len(images),
        )
