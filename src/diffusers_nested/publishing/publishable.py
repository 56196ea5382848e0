"""What makes a class of models one that can be published."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import PublishError
from ..vision import ImageEncoder
from .parts import save_parts
from .publication import prepare_publication
from .publish import upload


class Publishable:
    """Gives a class of models ``publish`` and ``push_to_hub``.

    The class has ``config`` and ``save_pretrained`` as diffusers' models have them, and ``from_source``, which loads a
    model from a ``Source``: so publishing checks a model by loading it, and need not know the class.
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

        The folder is checked by loading it. Only what belongs to an adapter is uploaded, in one commit: weights as
        safetensors, configurations, the card, an ``evaluation.json``, a ``LICENSE`` and pictures, these without their
        metadata. Files of the adapter that was there before and that this one does not have are removed in the same
        commit; other files stay. A publish that was cut off, or that another commit came before, leaves the repository
        as it was; run it again, and large files that have arrived are not sent again.

        Args:
            folder: Of the adapter.
            repo_id: ``user/name``; made if there is none.
            commit_message: Of the one commit.
            private: Whether a new repository is private.
            token: Access token with the right to write; by default the one of ``hf auth login``.
            create_pr: Ask the owner to merge it instead of writing to the branch.
            revision: Branch; made if there is none. By default main.
            subfolder: Where the adapter goes in the repository; by default, its top.
            base_model: Repository of the pipeline that it was trained on; by default the card's, or SDXL or
                Stable Diffusion 1.5 for an adapter of its size.
            license: Identifier of a licence, such as ``"apache-2.0"``; by default the card's.

        Returns:
            The address of the commit or of the pull request.

        Raises:
            PublishError: Something does not fit, or the Hub refuses; nothing has been published then.
            AdapterLoadError: The folder holds no whole adapter.
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
        image_encoder: ImageEncoder | str | Path | None = None,
        revision: str | None = None,
        evaluation: Mapping[str, Any] | None = None,
        sample_images: Sequence[Any] = (),
        base_model: str | None = None,
        license: str | None = None,
    ) -> str:
        """Publish the adapter on the Hub with its image encoder and a model card.

        The first keywords are those of diffusers' models. See ``publish`` for what is checked and uploaded.

        Args:
            repo_id: ``user/name``; made if there is none.
            commit_message: Of the one commit.
            private: Whether a new repository is private.
            token: Access token with the right to write; by default the one of ``hf auth login``.
            create_pr: Ask the owner to merge it instead of writing to the branch.
            safe_serialization: Only True: adapters are read as safetensors alone.
            variant: Such as ``"fp16"``: names the file of the weights; it does not convert them. Weights of other
                variants in the repository go: to have several, save them into one folder and ``publish`` that.
            subfolder: Where the adapter goes in the repository; by default, its top.
            image_encoder: The vision tower that it reads, with its preprocessing: in memory, or as
                ``load_vision_tower`` takes it. It may be left out if the adapter's config names one on the Hub.
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
