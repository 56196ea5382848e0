"""What the study compares: its adapters, and the comparisons they take part in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gated import NAME as GATED

from diffusers_nested.mechanisms import MECHANISMS
from diffusers_nested.miniature.prompts import PAIR_PROMPTS, PROMPTS, wanted
from recipes.miniature.bundled.adapters import ALPHA, QFORMER, SEED
from recipes.miniature.bundled.photographs import PLACES, SHIRTS
from recipes.miniature.bundled.study_adapters import StudyAdapter, curve_of

COMPARED = [name for name, one in MECHANISMS.items() if name != GATED and one.trained_as is None]
STEPS, SEEDS = 1000, (0, 1, 2)
LONG_STEPS = 4000  # with its seed, that of the bundled adapter, so that "nested-long" is the same
QUERIES, USUAL = (4, 16, 64), QFORMER["num_queries"]
ALPHAS = (None, 1.0, 3.0)
RIVALS = ("nested", "decoupled")
# In places and shirts that no example of "photographs" has, and one in another style.
UNSEEN = tuple(
    prompt
    for prompt, (named,) in ((one, wanted(one.format("person"), ["person"])) for one in PROMPTS)
    if named["place"] not in PLACES and named["shirt"] not in SHIRTS
)


def _norm(alpha: float | None) -> str:
    return "none" if alpha is None else f"{alpha:g}"


ADAPTERS = {
    **{f"{m}-{seed}": StudyAdapter(mechanism=m, steps=STEPS, seed=seed) for m in COMPARED for seed in SEEDS},
    **{f"nested-q{n}": StudyAdapter(num_queries=n, steps=STEPS) for n in QUERIES},
    **{f"nested-alpha{_norm(a)}": StudyAdapter(alpha=a, steps=STEPS) for a in ALPHAS},
    **{f"pets-{m}": StudyAdapter(name="pets", mechanism=m, steps=STEPS) for m in RIVALS},
    **{
        f"{m}-{examples}-{seed}": StudyAdapter(mechanism=m, steps=STEPS, seed=seed, examples=examples)
        for m in RIVALS
        for examples in ("themselves", "photographs")
        for seed in SEEDS
    },
    "gated-0": StudyAdapter(mechanism=GATED, steps=STEPS),
    **{f"{m}-long": StudyAdapter(mechanism=m, steps=LONG_STEPS, seed=SEED, is_curve=True) for m in RIVALS},
}
"""Folder of an adapter -> what it is."""


@dataclass(frozen=True)
class Comparison:
    """One comparison of the study.

    Attributes:
        name: Of its results.
        contestants: Name -> settings, see ``diffusers_nested.evaluation``. Those that differ in a last ``-seed0``,
            ``-seed1``, … are pooled in the results.
        subjects: Of the miniature: "people" or "pairs".
        count: How many.
        photos: How many of each.
        prompts: With ``{}`` for the subject's word.
        metrics: Columns.
        identity: The column of the plot's upward axis.
    """

    name: str
    contestants: Mapping[str, Any]
    subjects: str = "people"
    count: int = 40
    photos: int = 1
    prompts: tuple[str, ...] = PROMPTS
    metrics: Mapping[str, Any] = field(
        default_factory=lambda: {
            "text": "miniature-text",
            "identity": "miniature-identity",
            "outside": {"kind": "outside", "box": [0.09, 0.0, 0.91, 1.0]},
        }
    )

    identity: str = "identity"

    @property
    def is_curve(self) -> bool:
        """Whether a single subject is measured at several scales, which makes a plot."""
        several = any(len(one.get("scales", ())) > 1 for one in self.contestants.values())
        return several and self.subjects == "people"

    @property
    def adapters(self) -> list[str]:
        """The adapters that it needs."""
        named = [one["adapter"] for one in self.contestants.values() if one["kind"] == "nested"]
        paths = [path for each in named for path in (each if isinstance(each, list) else [each])]
        return list(dict.fromkeys(path.split("/")[1] for path in paths))


def _with(*adapters: str, **more: Any) -> dict[str, Any]:
    paths = [f"adapters/{name}" for name in adapters]
    return {"kind": "nested", "adapter": paths if len(paths) > 1 else paths[0], **more}


def _seeds(name: str, scales: tuple[float, ...]) -> dict[str, Any]:
    """Adapters that differ in the seed alone."""
    return {f"{name.split('-')[0]}-seed{seed}": _with(f"{name}-{seed}", scales=list(scales)) for seed in SEEDS}


_PLAIN = {"plain": {"kind": "plain"}}
_PAIRED = {
    "text": "miniature-text",
    "person": {"kind": "miniature-identity", "word": "person"},
    "pet": {"kind": "miniature-identity", "word": "pet"},
}

COMPARISONS = (
    Comparison(
        "mechanisms",
        {
            **_PLAIN,
            **{key: one for name in COMPARED for key, one in _seeds(name, MECHANISMS[name].scales).items()},
        },
        count=20,  # with each of three adapters: 360 pictures for a point
    ),
    Comparison(
        "queries",
        {
            **_PLAIN,
            **{f"queries-{n}": _with(f"nested-q{n}", scales=[1.0]) for n in QUERIES if n < USUAL},
            f"queries-{USUAL}": _with("nested-0", scales=[1.0]),
            **{f"queries-{n}": _with(f"nested-q{n}", scales=[1.0]) for n in QUERIES if n > USUAL},
        },
    ),
    Comparison(
        "norms",
        {
            **_PLAIN,
            **{f"alpha-{_norm(a)}": _with(f"nested-alpha{_norm(a)}", scales=[1.0, 2.0]) for a in ALPHAS},
            f"alpha-{_norm(ALPHA)}": _with("nested-0", scales=[1.0, 2.0]),
        },
    ),
    Comparison(
        "photos",
        _PLAIN | {f"photos-{n}": _with("nested-0", photos=n, scales=[1.0]) for n in (1, 2, 4)},
        photos=4,
    ),
    Comparison(
        "target",
        {
            **_PLAIN,
            **_seeds("nested-themselves", (1.0, 1.5, 2.0)),
            **_seeds("decoupled-themselves", (0.5, 0.75, 1.0)),
        },
        count=20,
    ),
    Comparison(
        "photographs",
        {
            **_PLAIN,
            **_seeds("nested-photographs", (1.0, 1.5, 2.0, 3.0)),
            **_seeds("decoupled-photographs", (0.25, 0.5, 0.75, 1.0)),
        },
        count=20,
        prompts=UNSEEN,
    ),
    Comparison(
        "length",
        {
            **_PLAIN,
            **{f"nested-{n}": _with(f"nested-long/after-{n}", scales=[1.0, 2.0]) for n in curve_of(LONG_STEPS)},
            f"nested-{LONG_STEPS}": _with("nested-long", scales=[1.0, 1.5, 2.0, 3.0]),
            **{f"decoupled-{n}": _with(f"decoupled-long/after-{n}", scales=[0.5, 1.0]) for n in curve_of(LONG_STEPS)},
            f"decoupled-{LONG_STEPS}": _with("decoupled-long", scales=[0.25, 0.5, 0.75, 1.0]),
        },
        count=12,
    ),
    Comparison(
        "heads",
        {
            **_PLAIN,
            GATED: _with("gated-0", scales=[0.5, 1.0, 2.0]),
            "decoupled": _with("decoupled-0", scales=[0.5, 1.0]),
            "nested": _with("nested-0", scales=[1.0]),
        },
    ),
    Comparison(
        "pairs",
        {
            **_PLAIN,
            "nested": _with("nested-0", "pets-nested", scales=[1.0, 2.0]),
            "decoupled": _with("decoupled-0", "pets-decoupled", scales=[0.5, 1.0]),
        },
        subjects="pairs",
        prompts=PAIR_PROMPTS,
        metrics=_PAIRED,
        identity="person",
    ),
)
