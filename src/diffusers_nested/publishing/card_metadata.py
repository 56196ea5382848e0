"""The metadata at the top of a model card: read, checked and completed."""

from collections.abc import Mapping
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.utils import validate_repo_id

from ..errors import PublishError
from ..files.rules import Rule, known_settings
from .scores import eval_results, is_ours

TAGS = ("diffusers-nested", "nested-attention")
_DAMAGED = (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, RecursionError)
_RESULTS = ("eval_results", "model_name", "metrics")


def parse_card(text: str, where: str) -> Any:
    """Parse a card and check that its metadata have the types that the Hub accepts.

    Args:
        text: The card's content; the metadata may be missing.
        where: Where it comes from, for messages.

    Raises:
        PublishError: The metadata cannot be read.
    """
    # the class would log a warning about missing metadata
    content = text if REGEX_YAML_BLOCK.search(text) else f"---\n{{}}\n---\n{text}"
    try:
        card: Any = ModelCard(content)
        _check(vars(card.data), where)
        card.data.metrics = _as_list(card.data.metrics)
        repr(card.content)  # raises unless it can be written again
    except PublishError:
        raise
    except _DAMAGED as error:
        reason = "they are nested too deeply" if isinstance(error, RecursionError) else str(error)[:500]
        raise PublishError(
            f"The metadata at the top of {where} cannot be read: {reason}. Correct them there."
        ) from error
    return card


def is_repository(name: Any) -> bool:
    """Whether this is ``user/name``."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return isinstance(name, str) and "/" in name


def fill_in(data: ModelCardData, earlier: ModelCardData) -> None:
    """Copy metadata that the author's card lacks from an earlier version of the card."""
    mine, theirs = vars(data), vars(earlier)
    has_results = any(mine.get(name) for name in ("eval_results", "metrics"))
    for name, value in theirs.items():
        if mine.get(name) is None and not (has_results and name in _RESULTS):
            mine[name] = value


def complete_data(
    data: ModelCardData,
    *,
    name: str,
    base_model: str | list[str],
    license: str | None,
    evaluation: Mapping[str, Any] | None,
) -> None:
    """Set the metadata that are known about an adapter, and keep the rest.

    Args:
        data: The card's metadata, which are modified.
        name: The model's name, unless the metadata contain one.
        base_model: Repository of the pipeline that it was trained on.
        license: None keeps the one in the metadata.
        evaluation: See ``read_evaluation``; its results replace the ones that an earlier publish wrote.
    """
    data.base_model = base_model
    data.license = license or data.license
    data.library_name = data.library_name or "diffusers-nested"
    data.pipeline_tag = data.pipeline_tag or "text-to-image"
    data.tags = list(dict.fromkeys([*(data.tags or ()), *TAGS]))
    _complete_results(data, name, evaluation)


def _complete_results(data: ModelCardData, name: str, evaluation: Mapping[str, Any] | None) -> None:
    """Replace the results of an earlier publish, and keep those that the author added."""
    ours = eval_results(evaluation) if evaluation is not None else []
    earlier = [result for result in data.eval_results or () if is_ours(result)]
    results = [result for result in data.eval_results or () if not is_ours(result)] + ours
    gone = {result.metric_type for result in earlier}
    metrics = [metric for metric in data.metrics or () if metric not in gone] + [result.metric_type for result in ours]
    data.eval_results = results or None
    data.model_name = (data.model_name or name) if results else None
    data.metrics = list(dict.fromkeys(metrics)) or None


def _check(data: Mapping[str, Any], where: str) -> None:
    strange = [name for name in data if hasattr(ModelCardData, name)]
    if strange:
        raise PublishError(f"The metadata of {where} have the entry {strange[0]!r}, which no card can have. Remove it.")
    known_settings(data, _RULES, f"The metadata of {where}", PublishError)


def _as_list(value: str | list[str] | None) -> list[str] | None:
    return [value] if isinstance(value, str) else value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, list) and all(map(_is_text, value)))


def _are_repositories(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list) and len(names) > 0 and all(_is_text(name) and is_repository(name) for name in names)


_TEXT = Rule(_is_text, "a text")
_TEXTS = Rule(_are_texts, "a text or a list of texts")
_RULES: dict[str, Rule] = {
    **dict.fromkeys(("license", "license_name", "library_name", "pipeline_tag", "model_name"), _TEXT),
    **dict.fromkeys(("tags", "metrics", "datasets"), _TEXTS),
    "base_model": Rule(_are_repositories, "'user/name' or a list of such names"),
}
