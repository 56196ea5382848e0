"""What would be published from a folder, checked by loading it; works offline."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from ..errors import PublishError
from ..files import is_folder, shown
from ..files.source import Source
from ..vision import OWN_FOLDER, check_count, each_tower, find_image_encoder, load_image_encoder, numbered
from ..vision.several import each_of
from .card import CardFacts, write_card
from .card_metadata import is_repository, parse_card
from .contents import Contents, read_contents
from .names import CARD, check_branch, check_subfolder, names_a_folder, weights_variant
from .own_files import read_text
from .scores import EVALUATION, read_evaluation

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # the form of the Hub's identifiers
# Loads a model with a ``config`` from a Source; takes ``variant``.
Load = Callable[..., Any]


@dataclass(frozen=True)
class Publication:
    """A complete adapter, ready to be published.

    Attributes:
        facts: What its card states.
        contents: The files of its folder.
        readme: The author's card; None if the folder has none.
        subfolder: The adapter's folder in the repository.
    """

    facts: CardFacts
    contents: Contents
    readme: str | None
    subfolder: str | None

    def card(self, published: bytes | None = None) -> ModelCard:
        """The card, completed from the one in the folder and the one in the repository.

        Args:
            published: The content of the card in the repository, if there is one.

        Raises:
            PublishError: A card cannot be read, or the base model is unknown.
        """
        return write_card(self.facts, self.readme, published)

    def files(self, card: ModelCard) -> dict[str, Path | bytes]:
        """All files, by their path in the repository."""
        files = {**self.contents.files, CARD: card.content.encode()}
        return {self.path_in_repo(name): files[name] for name in sorted(files)}

    def path_in_repo(self, name: str) -> str:
        """The path of one of the folder's files in the repository."""
        return "/".join(filter(None, (self.subfolder, name)))


def prepare_publication(
    folder: str | Path,
    repo_id: str,
    *,
    load: Load,
    subfolder: str | None = None,
    revision: str | None = None,
    base_model: str | None = None,
    license: str | None = None,
) -> Publication:
    """Check a folder by loading its content, and collect everything to publish.

    Args:
        folder: The adapter's folder.
        repo_id: ``user/name``.
        load: Loads an adapter: ``NestedAdapter.from_source``.
        subfolder: The adapter's folder in the repository; by default its top.
        revision: The branch that the card's example names; by default none, which means main.
        base_model: Repository of the pipeline that it was trained on; by default the one in the card, or SDXL or
            Stable Diffusion 1.5 for an adapter of its size.
        license: Identifier of a license, such as ``"apache-2.0"``; by default the one in the card.

    Raises:
        PublishError: A name is invalid, there is no such folder, or one of its files is invalid.
        AdapterLoadError: The folder contains no complete adapter, or its image encoder is incomplete or does not fit.
    """
    _check_names(repo_id, base_model, license)
    check_subfolder(subfolder)
    check_branch(revision)
    if not isinstance(folder, str | PathLike) or not is_folder(folder):
        raise PublishError(
            f"{shown(str(folder))[1:-1]} is not a folder. Give the folder with the adapter's config.json."
        )
    contents = read_contents(Path(folder))
    adapter = _load_all(Path(folder), contents, load)
    keywords: dict[str, str | None] = {"subfolder": subfolder, "revision": revision}
    if None not in contents.variants:
        keywords["variant"] = contents.variants[0]
    facts = CardFacts(
        repo_id,
        adapter.config,
        parameters=sum(parameter.numel() for parameter in adapter.parameters()),
        weights_size=_weights_size(contents),
        own_encoders=contents.own_encoders,
        load_keywords={name: value for name, value in keywords.items() if value is not None},
        pictures=contents.pictures,
        evaluation=read_evaluation(Path(folder, EVALUATION)),
        base_model=base_model,
        license=license,
    )
    return Publication(facts, contents, _readme(Path(folder, CARD)) if contents.has_card else None, subfolder)


def _readme(path: Path) -> str | None:
    """The author's card; None if it is empty."""
    text = read_text(path)
    if not text.strip():
        return None
    parse_card(text, str(path))
    return text


def _check_names(repo_id: str, base_model: str | None, license: str | None) -> None:
    for what, name in (("repo_id", repo_id), ("base_model", base_model)):
        if (name is not None or what == "repo_id") and not is_repository(name):
            raise PublishError(f"{what} {shown(name)} is not a repository id. Give one of the form 'user/name'.")
    if license is not None and not (isinstance(license, str) and _LICENSE.fullmatch(license)):
        raise PublishError(
            f"license {shown(license)} is not the identifier of a license, as the Hub lists them. Give one such as "
            "'apache-2.0', 'cc-by-4.0' or 'openrail++', or 'other'."
        )


def _load_all(folder: Path, contents: Contents, load: Load) -> Any:
    """Load each variant of the weights and the image encoder, and return the adapter."""
    source = Source(str(folder))
    adapter, *_ = [load(source, variant=variant) for variant in contents.variants or [None]]
    towers = each_tower(adapter.config)
    for number, features in enumerate(each_of(adapter.image_features, len(towers)), 1):
        _check_tower(folder, contents, towers[number - 1], features, number)
    unread = [numbered(OWN_FOLDER, number) for number in contents.own_encoders if number > len(towers)]
    if unread:
        raise PublishError(
            f"{folder} has {unread[0]}/, but its adapter reads {len(towers)} vision tower{'s' * (len(towers) > 1)}. "
            f"Remove {unread[0]}/."
        )
    return adapter


def _check_tower(folder: Path, contents: Contents, config: Mapping[str, Any], features: str, number: int) -> None:
    """Load the adapter's own vision tower, or see that its config names one for everybody."""
    named, own = config["image_encoder"], numbered(OWN_FOLDER, number)
    if number in contents.own_encoders:
        tower = find_image_encoder(config, Source(str(folder)), own, features, number=number)
        check_count(config, load_image_encoder(tower), features, f"The image encoder {tower.name}")
    elif not named or names_a_folder(named):
        raise PublishError(
            f"{folder} has no {own}/, and its config.json names "
            f"{repr(named) + ', a folder on this machine' if named else 'none on the Hub'}. Save the vision tower as "
            f"{own}/ and its preprocessing as {numbered('feature_extractor', number)}/ beside the adapter."
        )


def _weights_size(contents: Contents) -> int:
    first = contents.variants[0] or ""
    return sum(size for name, size in sizes(contents.files).items() if weights_variant(name) == first)


def sizes(files: Mapping[str, Any]) -> dict[str, int]:
    """Size of every file in bytes."""
    return {name: len(file) if isinstance(file, bytes) else Path(file).stat().st_size for name, file in files.items()}
