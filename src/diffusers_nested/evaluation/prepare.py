"""Everything a comparison needs, loaded and checked before its first picture."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError
from .contestants import Contestant, Plain, make_contestant
from .contestants.digest import digest_of
from .metrics import Metric, make_metric
from .pictures import check_names
from .pipeline import load_pipeline
from .references import Reference
from .settings import EvaluationSettings
from .shots import Shot, check_words, load_prompts, plan_shots
from .sources import load_references
from .worlds import WORLDS

_OWN = ("prompt", "generator", "output_type", "return_dict", "num_images_per_prompt")  # set by the comparison itself


@dataclass(frozen=True)
class Comparison:
    """A comparison that is ready to run.

    Attributes:
        settings: As given.
        references: The subjects.
        shots: The pictures that every contestant makes, in order.
        contestants: The contestants, the plain pipeline first.
        metrics: The metrics.
        pipeline: The pipeline.
        call: Keywords of its call.
        definition: Everything that the results depend on; a comparison resumes only with the same definition.
    """

    settings: EvaluationSettings
    references: Sequence[Reference]
    shots: Sequence[Shot]
    contestants: Sequence[Contestant]
    metrics: Sequence[Metric]
    pipeline: Any
    call: dict[str, Any]
    definition: dict[str, Any]

    @property
    def plain(self) -> Plain | None:
        """The plain contestant, if metrics need its pictures."""
        if not any(metric.needs_plain for metric in self.metrics):
            return None
        return next(one for one in self.contestants if isinstance(one, Plain))

    def batches(self) -> list[Sequence[Shot]]:
        """The shots in batches, the same for all contestants and after resuming."""
        size = self.settings.batch_size
        return [self.shots[start : start + size] for start in range(0, len(self.shots), size)]


def prepare(settings: EvaluationSettings, device: str) -> Comparison:
    """Load and check everything.

    Raises:
        NestedAdapterError: Something does not fit together; no picture has been made then.
    """
    prompts = load_prompts(settings.prompts)
    references = load_references(settings.subjects)
    shots = plan_shots(references, prompts, settings.seeds)  # pyright: ignore[reportArgumentType]
    contestants = _contestants(settings)
    check_names("subject", (one.name for one in references))
    check_names("contestant", (one.name for one in contestants))
    metrics = [make_metric(name, given) for name, given in settings.metrics.items()]
    _check_together(settings, contestants, metrics)
    for contestant in contestants:
        contestant.check(references)
    for metric in metrics:
        metric.to(device)
        metric.check(references)
    pipeline = load_pipeline(settings.pipeline, device, settings.dtype)
    world = WORLDS.get(settings.pipeline)
    call = {**(world.call if world else {}), **settings.call, "output_type": "pil"}
    _check_call(settings.call, pipeline)
    check_words(shots, pipeline)
    for contestant in contestants:
        with contestant.loaded(pipeline, call):
            contestant.check_loaded(pipeline, shots)
    definition = _as_json(_definition(settings, prompts, references, contestants, call))
    return Comparison(settings, references, shots, contestants, metrics, pipeline, call, definition)


def _contestants(settings: EvaluationSettings) -> list[Contestant]:
    contestants = []
    for name, table in settings.contestants.items():
        scales = settings.scales_of(name)
        if isinstance(table, dict):
            if table.get("kind") == "plain" and "scales" in table:
                raise NestedAdapterError(f"contestants.{name} is plain, so it has no scales. Leave them out.")
            table = {key: value for key, value in table.items() if key != "scales"}
        contestants.append(make_contestant(name, table, scales))
    return sorted(contestants, key=lambda one: not isinstance(one, Plain))


def _check_together(settings: EvaluationSettings, contestants: Sequence[Contestant], metrics: Sequence[Metric]) -> None:
    needy = [metric.name for metric in metrics if metric.needs_plain]
    if needy and not any(isinstance(one, Plain) for one in contestants):
        raise NestedAdapterError(
            f"metrics.{needy[0]} compares with the plain pipeline, which does not take part. Add a contestant of "
            'kind "plain".'
        )
    missing = [column for column in (settings.x, settings.y) if column not in settings.metrics]
    if missing:
        raise NestedAdapterError(
            f"The plot's axes are {settings.x!r} and {settings.y!r}, but there is no metric {missing[0]!r}. Set x and "
            f"y to two of {', '.join(settings.metrics)}."
        )


def _check_call(call: Mapping[str, Any], pipeline: Any) -> None:
    """Raise on keywords that the pipeline does not have, or that the comparison sets itself.

    Raises:
        NestedAdapterError: Names the first of them.
    """
    takes = inspect.signature(type(pipeline).__call__).parameters
    own = [name for name in call if name in _OWN or name.startswith("nested_adapter_")]
    # classes that only pass keywords on have no list of them
    unknown = [name for name in call if name not in takes and "prompt" in takes]
    if own or unknown:
        what = f"the comparison itself sets {own[0]!r}" if own else f"the pipeline has no {unknown[0]!r}"
        raise NestedAdapterError(f"call has a keyword that it cannot have: {what}. Remove it.")


def _as_json(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition, checked to be JSON.

    Raises:
        NestedAdapterError: A setting cannot be written as JSON.
    """
    for name, value in definition.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise NestedAdapterError(
                f"{name} cannot be written to settings.json: {error}. Use strings, numbers, lists and tables."
            ) from error
    return definition


def _definition(
    settings: EvaluationSettings,
    prompts: Sequence[str],
    references: Sequence[Reference],
    contestants: Sequence[Contestant],
    call: dict[str, Any],
) -> dict[str, Any]:
    files = {"pipeline_files": digest_of([settings.pipeline])} if Path(settings.pipeline).is_dir() else {}
    return {
        "pipeline": settings.pipeline,
        **files,
        "dtype": settings.dtype,
        "call": call,
        "batch_size": settings.batch_size,
        "prompts": list(prompts),
        "seeds": list(settings.seeds),  # pyright: ignore[reportArgumentType]
        "subjects": {one.name: {"words": list(one.words), "photos": one.fingerprint} for one in references},
        "metrics": {name: given for name, given in settings.metrics.items()},
        "save_pictures": settings.save_pictures,
        "contestants": {
            one.name: {
                **settings.contestants[one.name],
                "scales": list(one.scales),
                "files": one.fingerprint(),
            }
            for one in contestants
        },
    }
