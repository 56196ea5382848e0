"""A mixin for models that can be published."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import PublishError
from ..files import shown
from ..vision import ImageEncoder, ImageEncoders
from .names import weights_variant
from .parts import save_parts
from .publication import prepare_publication
from .publish import upload


class Publishable:
    """Adds ``publish`` and ``push_to_hub`` to a model of diffusers.

    The model's class must have ``from_source``, which loads a model from a ``Source``: publishing checks a folder by
    loading it.
    """

    @classmethod
    def publish(
        cls,
        folder: str | Path,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        create_pr: bool = False,
        revision: str | None = None,
        subfolder: str | None = None,
        base_model: str | None = None,
        license: str | None = None,
    ) -> str:
        """Publish an adapter's folder on the Hub, with a model card.

        The folder is checked by loading it. One commit contains everything that belongs to an adapter: weights as
        safetensors, configurations, the card, ``evaluation.json``, ``LICENSE``, and pictures without their metadata.
        It also removes files of an earlier adapter that the new one does not have; other files stay. If the upload is
        interrupted, or somebody else commits in between, the repository stays as it was. Try again then: large files
        that have arrived are not sent a second time.

        Args:
            folder: The adapter's folder.
            repo_id: ``user/name``; created if necessary.
            commit_message: Message of the commit.
            private: Whether a new repository is private.
            token: Access token with write permission; by default the one of ``hf auth login``.
            create_pr: Open a pull request instead of writing to the branch.
            revision: The branch, created if necessary; main by default.
            subfolder: The adapter's folder in the repository; by default its top.
            base_model: Repository of the pipeline that it was trained on; by default the one in the card, or SDXL or
                Stable Diffusion 1.5 for an adapter of its size.
            license: Identifier of a license, such as ``"apache-2.0"``; by default the one in the card.

        Returns:
            The URL of the commit or the pull request.

        Raises:
            PublishError: A check fails, or the Hub refuses; nothing is published then.
            AdapterLoadError: The folder contains no complete adapter.
        """
        kind: Any = cls
        publication = prepare_publication(
            folder,
            repo_id,
            load=kind.from_source,
            subfolder=subfolder,
            revision=None if create_pr else revision,
            base_model=base_model,
            license=license,
        )
        return upload(
            publication,
            commit_message=commit_message,
            private=private,
            token=token,
            create_pr=create_pr,
            revision=revision,
        )

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        create_pr: bool = False,
        safe_serialization: bool = True,
        variant: str | None = None,
        subfolder: str | None = None,
        *,
        image_encoder: ImageEncoder | ImageEncoders | str | Path | Sequence[ImageEncoder | str | Path] | None = None,
        revision: str | None = None,
        evaluation: Mapping[str, Any] | None = None,
        sample_images: Sequence[Any] = (),
        base_model: str | None = None,
        license: str | None = None,
    ) -> str:
        """Publish the adapter on the Hub with its image encoder and a model card.

        The first arguments are those of diffusers' models. See ``publish`` for what is checked and uploaded.

        Args:
            repo_id: ``user/name``; created if necessary.
            commit_message: Message of the commit.
            private: Whether a new repository is private.
            token: Access token with write permission; by default the one of ``hf auth login``.
            create_pr: Open a pull request instead of writing to the branch.
            safe_serialization: Must be True: adapters are saved as safetensors only.
            variant: Such as ``"fp16"``: goes into the name of the weight file; the weights are not converted. Other
                variants in the repository are removed; to publish several, save them into one folder and ``publish``
                that.
            subfolder: The adapter's folder in the repository; by default its top.
            image_encoder: The vision tower that it reads, in memory or as a name for ``load_vision_tower``, or a list
                of several. It may be left out if the adapter's config names one on the Hub.
            revision: The branch, created if necessary; main by default.
            evaluation: Results of an evaluation; see ``evaluation.json`` in the documentation.
            sample_images: Pictures for the card, as images or paths.
            base_model: Repository of the pipeline that it was trained on; by default the one in the card, or SDXL or
                Stable Diffusion 1.5 for an adapter of its size.
            license: Identifier of a license, such as ``"apache-2.0"``; by default the one in the card.

        Returns:
            The URL of the commit or the pull request.

        Raises:
            PublishError: A check fails, or the Hub refuses; nothing is published then.
            AdapterLoadError: The image encoder cannot be loaded, or does not fit the adapter.
        """
        if not safe_serialization:
            raise PublishError("Adapters are published as safetensors only. Leave out safe_serialization=False.")
        if variant is not None and weights_variant(f"diffusion_pytorch_model.{variant}.safetensors") != variant:
            raise PublishError(f"variant is {shown(variant)}, expected letters and digits, such as 'fp16'.")
        model: Any = self
        with tempfile.TemporaryDirectory() as temporary:
            model.save_pretrained(temporary, variant=variant)
            save_parts(Path(temporary), image_encoder, evaluation, sample_images)
            return self.publish(
                temporary,
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
