"""What the study compares: its adapters, and the comparisons they take part in.

Two protocols. "mechanisms": adapters learn from all that the world has, by captions of its grammar, and are tested in
held-out wordings. "paper": they learn as the paper's do, from photos alone, each cut out of its own target, in few
places and shirts; what they are tested in, by held-out wordings, only the base has seen. How many steps are enough, the
comparisons of lengths say.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gated import NAME as GATED

from diffusers_nested.mechanisms import MECHANISMS
from diffusers_nested.miniature.prompts import PAIR_PROMPTS, PROMPTS
from recipes.miniature.bundled.adapters import ALPHA, QFORMER
from recipes.miniature.bundled.study_adapters import StudyAdapter

COMPARED = [name for name, one in MECHANISMS.items() if name != GATED and one.trained_as is None]
STEPS = 2000
LENGTHS = (1000, 2000, 4000, 8000)  # the curve of a mechanism is flat where twice as many steps add under 0.01
QUERIES, USUAL = (4, 16, 64), QFORMER["num_queries"]
ALPHAS = (None, 1.0, 3.0)  # beside the usual one
RIVALS = ("nested", "decoupled")
SEEDS = {name: (0, 1, 2) if name in RIVALS else (0,) for name in COMPARED}
PROTOCOLS = {"mechanisms": "", "paper": "paper-"}  # comparison -> what its adapters' names have before the seed
# For adapters that learnt as the paper's: styles, places and clothes that only the base knows, in held-out wordings.
UNSEEN = (
    "a {} wearing a lilac top, in watercolour, in a dry desert",
    "in winter, a painting of a smiling {} having on a yellow jumper",
    "in a green forest, a glowing neon image of a {} dressed in a tangerine sweater",
    "as a photo: a sad {} dressed in a snow white sweater and a green cap among trees",
    "a {} wearing an olive top, glowing neon, in a dry desert",
)
_PROMPTS = {"mechanisms": PROMPTS, "paper": UNSEEN}


def _norm(alpha: float | None) -> str:
    return "none" if alpha is None else f"{alpha:g}"


ADAPTERS = {
    **{
        f"{m}-{mark}{seed}": StudyAdapter(mechanism=m, steps=STEPS, seed=seed, as_in_paper=bool(mark))
        for mark in PROTOCOLS.values()
        for m, seeds in SEEDS.items()
        for seed in seeds
    },
    **{
        f"{m}-{mark}{steps}-steps": StudyAdapter(mechanism=m, steps=steps, as_in_paper=bool(mark))
        for mark in PROTOCOLS.values()
        for m in RIVALS
        for steps in LENGTHS
        if steps != STEPS
    },
    **{f"nested-q{n}": StudyAdapter(num_queries=n, steps=STEPS) for n in QUERIES},
    **{f"nested-alpha{_norm(a)}": StudyAdapter(alpha=a, steps=STEPS) for a in ALPHAS},
    **{f"pets-{m}": StudyAdapter(name="pets", mechanism=m, steps=STEPS) for m in RIVALS},
    "gated-0": StudyAdapter(mechanism=GATED, steps=STEPS),
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


def _of_length(mechanism: str, mark: str, steps: int) -> str:
    return f"{mechanism}-{mark}{0 if steps == STEPS else f'{steps}-steps'}"


_PLAIN = {"plain": {"kind": "plain"}}
_PAIRED = {
    "text": "miniature-text",
    "person": {"kind": "miniature-identity", "word": "person"},
    "pet": {"kind": "miniature-identity", "word": "pet"},
}

COMPARISONS = (
    *(
        Comparison(
            name,
            {
                **_PLAIN,
                **{
                    f"{m}-seed{seed}": _with(f"{m}-{mark}{seed}", scales=list(MECHANISMS[m].scales))
                    for m, seeds in SEEDS.items()
                    for seed in seeds
                },
            },
            prompts=_PROMPTS[name],
        )
        for name, mark in PROTOCOLS.items()
    ),
    *(
        Comparison(
            f"length-{name}",
            {
                **_PLAIN,
                **{
                    f"{m}-{steps}": _with(_of_length(m, mark, steps), scales=list(MECHANISMS[m].scales))
                    for m in RIVALS
                    for steps in LENGTHS
                },
            },
            prompts=_PROMPTS[name],
        )
        for name, mark in PROTOCOLS.items()
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
