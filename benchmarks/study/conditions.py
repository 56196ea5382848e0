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
STEPS, SEEDS = 600, (0, 1, 2)
PHOTOGRAPH_STEPS = 2000  # and as many once more, with a second cosine
LONG_STEPS = 4000  # with its seed, that of the bundled adapter, so that "nested-long" is the same
QUERIES, PHOTOGRAPH_QUERIES, USUAL = (4, 16, 64), (4, 64), QFORMER["num_queries"]
ALPHAS = (None, 1.0, 3.0)
# Of the paper's ranges; for the simple adapter, which has no dial in the paper, ours.
SCALES = {
    "nested": (1.0, 1.5, 2.0, 3.0),
    "decoupled": (0.5, 0.75, 1.0),
    "simple": (1.0, 2.0, 4.0),
    "global_value": (1.0, 2.0, 3.0),
    "multiple_tokens": (1.0, 2.0, 3.0),
}
BUNDLED = "miniature:people"
RIVALS = ("nested", "decoupled")
METRICS: Mapping[str, Any] = {
    "text": "miniature-text",
    "identity": "miniature-identity",
    "outside": {"kind": "outside", "box": [0.09, 0.0, 0.91, 1.0]},
}
# In places and shirts that no example of "photographs" has, and one in another style.
UNSEEN = tuple(
    prompt
    for prompt, (named,) in ((one, wanted(one.format("person"), ["person"])) for one in PROMPTS)
    if named["place"] not in PLACES and named["shirt"] not in SHIRTS
)


def _norm(alpha: float | None) -> str:
    return "none" if alpha is None else f"{alpha:g}"


def _seeds_of(mechanism: str) -> tuple[int, ...]:
    return SEEDS if mechanism in RIVALS else SEEDS[:1]


ADAPTERS = {
    **{f"{m}-{seed}": StudyAdapter(mechanism=m, steps=STEPS, seed=seed) for m in COMPARED for seed in _seeds_of(m)},
    **{f"nested-q{n}": StudyAdapter(num_queries=n, steps=STEPS) for n in QUERIES},
    **{f"nested-alpha{_norm(a)}": StudyAdapter(alpha=a, steps=STEPS) for a in ALPHAS},
    **{f"pets-{m}": StudyAdapter(name="pets", mechanism=m, steps=STEPS) for m in RIVALS},
    **{
        f"{m}-photographs": StudyAdapter(mechanism=m, steps=PHOTOGRAPH_STEPS, examples="photographs", is_curve=True)
        for m in RIVALS
    },
    **{
        f"{m}-photographs-on": StudyAdapter(
            mechanism=m, steps=PHOTOGRAPH_STEPS, seed=1, examples="photographs", start=f"{m}-photographs"
        )
        for m in RIVALS
    },
    **{
        f"{m}-photographs-{seed}": StudyAdapter(mechanism=m, steps=PHOTOGRAPH_STEPS, seed=seed, examples="photographs")
        for m in RIVALS
        for seed in SEEDS[1:]
    },
    **{
        f"{m}-photographs-{seed}-on": StudyAdapter(
            mechanism=m, steps=PHOTOGRAPH_STEPS, seed=seed + 1, examples="photographs", start=f"{m}-photographs-{seed}"
        )
        for seed in SEEDS[1:]
        for m in RIVALS
    },
    **{
        f"{m}-photographs-1-on-on": StudyAdapter(
            mechanism=m, steps=PHOTOGRAPH_STEPS, seed=3, examples="photographs", start=f"{m}-photographs-1-on"
        )
        for m in RIVALS
    },
    **{
        f"nested-photographs-1-q{n}": StudyAdapter(
            num_queries=n, steps=PHOTOGRAPH_STEPS, seed=1, examples="photographs"
        )
        for n in PHOTOGRAPH_QUERIES
    },
    **{
        f"{m}-photographs-1": StudyAdapter(mechanism=m, steps=PHOTOGRAPH_STEPS, seed=1, examples="photographs")
        for m in COMPARED
        if m not in RIVALS
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
        subjects: A world's, as "miniature:people".
        count: How many.
        photos: How many of each.
        prompts: With ``{}`` for the subject's word.
        metrics: Columns.
        across: The column of the plot's horizontal axis.
        identity: The column of the plot's upward axis.
        is_plotted: Whether the page shows a plot.
        shown: Contestant without its seed -> scale of its pictures on the page; by default, the one next to 2.
    """

    name: str
    contestants: Mapping[str, Any]
    subjects: str = "miniature:people"
    count: int = 12
    photos: int = 1
    prompts: tuple[str, ...] = PROMPTS
    metrics: Mapping[str, Any] = field(default_factory=lambda: METRICS)
    across: str = "text"
    identity: str = "identity"
    is_plotted: bool = True
    shown: Mapping[str, float] = field(default_factory=dict)

    @property
    def adapters(self) -> list[str]:
        """The adapters that it needs trained."""
        named = [one["adapter"] for one in self.contestants.values() if one["kind"] == "nested"]
        paths = [path for each in named for path in (each if isinstance(each, list) else [each])]
        return list(dict.fromkeys(path.split("/")[1] for path in paths if path != BUNDLED))


def _with(*adapters: str, **more: Any) -> dict[str, Any]:
    paths = [f"adapters/{name}" for name in adapters]
    return {"kind": "nested", "adapter": paths if len(paths) > 1 else paths[0], **more}


def _seeds(name: str, scales: tuple[float, ...]) -> dict[str, Any]:
    """Adapters that differ in the seed alone."""
    return {f"{name}-seed{seed}": _with(f"{name}-{seed}", scales=list(scales)) for seed in _seeds_of(name)}


def _photographs_again(trained: str, scales: tuple[float, ...], rounds: int = 1, **more: Any) -> dict[str, Any]:
    """The other seeds of what learns from photographs, after one or more cosines."""
    title = f"{more.get('mechanism', trained)}-{rounds * PHOTOGRAPH_STEPS}" if rounds > 1 else trained
    name = {seed: f"{trained}-photographs-{seed}{'-on' * (rounds - 1)}" for seed in SEEDS[1:]}
    return {f"{title}-seed{seed}": _with(name[seed], scales=list(scales), **more) for seed in SEEDS[1:]}


# Of what learns from photographs, which sees the head of a portrait.
_FROM_HEADS: dict[str, Any] = {
    "subjects": "heads:people",
    "count": 24,
    "prompts": UNSEEN,
    "metrics": {**METRICS, "identity": "whole-identity"},
    "across": "outside",  # prompts are kept whole by nearly all
}
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
            **{key: one for name in COMPARED for key, one in _seeds(name, SCALES[name]).items()},
        },
    ),
    Comparison(
        "queries",
        {
            **_PLAIN,
            **{f"queries-{n}": _with(f"nested-q{n}", scales=[1.0, 2.0]) for n in QUERIES if n < USUAL},
            f"queries-{USUAL}": _with("nested-0", scales=[1.0, 2.0]),
            **{f"queries-{n}": _with(f"nested-q{n}", scales=[1.0, 2.0]) for n in QUERIES if n > USUAL},
        },
        is_plotted=False,
    ),
    Comparison(
        "norms",
        {
            **_PLAIN,
            **{
                f"alpha-{_norm(a)}": _with("nested-0" if a == ALPHA else f"nested-alpha{_norm(a)}", scales=[1.0, 2.0])
                for a in sorted({*ALPHAS, ALPHA}, key=lambda a: a or 0.0)
            },
        },
    ),
    Comparison(
        "photos",
        _PLAIN | {f"photos-{n}": _with("nested-0", photos=n, scales=[1.0, 2.0]) for n in (1, 2, 4)},
        photos=4,
        is_plotted=False,
    ),
    Comparison(
        "covered",
        {
            **_PLAIN,
            **{f"photos-{n}": {"kind": "nested", "adapter": BUNDLED, "photos": n, "scales": [2.0]} for n in (1, 2, 4)},
        },
        subjects="covered:people",
        count=24,
        photos=4,
        metrics={**METRICS, "identity": "whole-identity"},
        is_plotted=False,
    ),
    Comparison(
        "photographs",
        {
            **_PLAIN,
            "nested-1000": _with("nested-photographs/after-1000", scales=[1.0, 2.0, 3.0]),
            f"nested-{PHOTOGRAPH_STEPS}": _with("nested-photographs", scales=[1.0, 1.5, 2.0, 3.0]),
            f"nested-{2 * PHOTOGRAPH_STEPS}": _with("nested-photographs-on", scales=[1.0, 1.5, 2.0, 3.0]),
            "decoupled-1000": _with("decoupled-photographs/after-1000", scales=[0.5, 0.75, 1.0]),
            f"decoupled-{PHOTOGRAPH_STEPS}": _with("decoupled-photographs", scales=[0.25, 0.5, 0.75, 1.0]),
            f"decoupled-{2 * PHOTOGRAPH_STEPS}": _with("decoupled-photographs-on", scales=[0.25, 0.5, 0.75, 1.0]),
        },
        **_FROM_HEADS,
    ),
    Comparison(
        "photographs-again",
        {
            **_PLAIN,
            **_photographs_again("nested", (1.5, 2.0, 3.0)),
            **_photographs_again("decoupled", (0.25, 0.5, 1.0)),
            **{m: _with(f"{m}-photographs-1", scales=list(SCALES[m])) for m in COMPARED if m not in RIVALS},
        },
        shown={"simple": 1.0},
        **_FROM_HEADS,
    ),
    Comparison(
        "photographs-longer",
        {
            **_PLAIN,
            **_photographs_again("nested", (1.0, 1.5, 2.0, 3.0), 2),
            **_photographs_again("decoupled", (0.25, 0.5, 1.0), 2),
            f"nested-{3 * PHOTOGRAPH_STEPS}": _with("nested-photographs-1-on-on", scales=[1.0, 1.5, 2.0, 3.0]),
            f"decoupled-{3 * PHOTOGRAPH_STEPS}": _with("decoupled-photographs-1-on-on", scales=[0.25, 0.5, 1.0]),
        },
        **_FROM_HEADS,
    ),
    Comparison(
        "photographs-located",
        {
            **_PLAIN,
            **_photographs_again("nested", (1.5, 2.0), 2),
            **_photographs_again("decoupled", (0.25, 0.5, 1.0), 2),
            **_photographs_again("decoupled", (0.5, 1.0, 2.0), 2, mechanism="located"),
        },
        shown={f"located-{2 * PHOTOGRAPH_STEPS}": 1.0},
        **_FROM_HEADS,
    ),
    Comparison(
        "photographs-queries",
        {
            **_PLAIN,
            **{
                f"queries-{n}": _with(f"nested-photographs-1{'' if n == USUAL else f'-q{n}'}", scales=[1.0, 2.0])
                for n in sorted({*PHOTOGRAPH_QUERIES, USUAL})
            },
        },
        is_plotted=False,
        **_FROM_HEADS,
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
    ),
    Comparison(
        "heads",
        {
            **_PLAIN,
            GATED: _with("gated-0", scales=[0.5, 1.0, 2.0]),
            "decoupled": _with("decoupled-0", scales=[0.5, 1.0]),
            "nested": _with("nested-0", scales=[1.0, 2.0]),
        },
    ),
    Comparison(
        "pairs",
        {
            **_PLAIN,
            "nested": _with("nested-0", "pets-nested", scales=[1.0, 2.0]),
            "decoupled": _with("decoupled-0", "pets-decoupled", scales=[0.5, 1.0]),
        },
        subjects="miniature:pairs",
        prompts=PAIR_PROMPTS,
        metrics=_PAIRED,
        identity="person",
        is_plotted=False,
    ),
)
