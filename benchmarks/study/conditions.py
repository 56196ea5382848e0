"""What the study compares: its adapters, and the comparisons they take part in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gated import NAME as GATED

from diffusers_nested.mechanisms import MECHANISMS
from recipes.miniature.bundled.adapters import ALPHA, QFORMER
from recipes.miniature.bundled.study_adapters import StudyAdapter

COMPARED = [name for name, one in MECHANISMS.items() if name != GATED and one.trained_as is None]
STEPS, SEEDS = 800, (0, 1)
LONG_STEPS = 4000
QUERIES, USUAL = (4, 16, 64), QFORMER["num_queries"]
ALPHAS = (None, 1.0, 2.0, 3.0)
RIVALS = ("nested", "decoupled")
# None of them is a caption that the base or an adapter was trained on (unseen.py); in those, the place comes last.
PROMPTS = (
    "a photo of a smiling {} on the beach wearing a red shirt",
    "a photo of a sad {} in the forest wearing a yellow shirt",
    "a photo of a {} in the desert wearing a white shirt and a green hat",
    "a watercolor of a smiling {} in the snow wearing a purple shirt",
    "a neon picture of a smiling {} in the city wearing a yellow shirt",
)
PAIR_PROMPTS = (
    "a photo of a smiling person wearing a blue shirt and a pet wearing a red shirt on the beach",
    "a photo of a pet wearing a green hat and a sad person wearing a white shirt in the snow",
    "a watercolor of a person wearing a green shirt and a pet in the forest",
    "a photo of a sad person wearing a yellow hat and a pet wearing a red shirt in the city",
    "a photo of a pet wearing a purple shirt and a person wearing a blue shirt in the desert",
)


def _norm(alpha: float | None) -> str:
    return "none" if alpha is None else f"{alpha:g}"


ADAPTERS = {
    **{f"{m}-{seed}": StudyAdapter(mechanism=m, steps=STEPS, seed=seed) for m in COMPARED for seed in SEEDS},
    **{f"nested-q{n}": StudyAdapter(num_queries=n, steps=STEPS) for n in QUERIES},
    **{f"nested-alpha{_norm(a)}": StudyAdapter(alpha=a, steps=STEPS) for a in ALPHAS},
    **{f"pets-{m}": StudyAdapter(name="pets", mechanism=m, steps=STEPS) for m in RIVALS},
    **{
        f"{m}-same-{seed}": StudyAdapter(mechanism=m, steps=STEPS, seed=seed, photo_is_target=True)
        for m in RIVALS
        for seed in SEEDS
    },
    "gated-0": StudyAdapter(mechanism=GATED, steps=STEPS),
    **{f"{m}-long": StudyAdapter(mechanism=m, steps=LONG_STEPS) for m in RIVALS},
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
        return [path.removeprefix("adapters/") for path in dict.fromkeys(paths)]


def _with(*adapters: str, **more: Any) -> dict[str, Any]:
    paths = [f"adapters/{name}" for name in adapters]
    return {"kind": "nested", "adapter": paths if len(paths) > 1 else paths[0], **more}


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
            **{
                f"{name}-seed{seed}": _with(f"{name}-{seed}", scales=list(MECHANISMS[name].scales))
                for name in COMPARED
                for seed in SEEDS
            },
        },
        count=20,  # with each of two adapters: 200 pictures for a point
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
            **{f"nested-seed{seed}": _with(f"nested-same-{seed}", scales=[1.0, 1.5, 2.0]) for seed in SEEDS},
            **{f"decoupled-seed{seed}": _with(f"decoupled-same-{seed}", scales=[0.5, 0.75, 1.0]) for seed in SEEDS},
        },
        count=20,
    ),
    Comparison(
        "length",
        {
            **_PLAIN,
            "nested": _with("nested-long", scales=[1.0, 1.5, 2.0]),
            "decoupled": _with("decoupled-long", scales=[0.5, 0.75, 1.0]),
        },
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
