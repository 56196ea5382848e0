"""Win rates from the answers of raters."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import NestedAdapterError
from ...files import shown

QUESTIONS = ("prompt", "identity", "overall")
_SIDES = ("left", "right")
_SAMPLES = 2000


def win_rates(key: Path, answers: Sequence[Path], seed: int = 0) -> list[dict[str, Any]]:
    """Compute how often raters preferred the first contestant of a study to each of the others.

    The 95 % bootstrap intervals draw both raters and pairs: answers of one rater, or about one pair, are not
    independent.

    Args:
        key: The key that ``write_page`` wrote.
        answers: Files that the page saved, one per rater.
        seed: Seed of the bootstrap.

    Returns:
        Per other contestant and question: ``contestant``, ``other``, ``question``, ``rate``, ``low``, ``high``, the
        number of ``answers``, of ``raters``, and of questions left ``open``.

    Raises:
        NestedAdapterError: A file has another format or belongs to another study, or two files are by the same rater.
    """
    study = _read_key(key)
    raters = [_checked(path, study) for path in answers]
    if not raters:
        raise NestedAdapterError("There are no answers. Name the files that the page saved.")
    names = [rater["rater"] for rater in raters]
    for name in names:
        if names.count(name) > 1:
            twice = [str(one) for one, by in zip(answers, names, strict=True) if by == name]
            raise NestedAdapterError(
                f"{' and '.join(twice)} are by the same rater. Give only the last file of each rater."
            )
    first = study["first"]
    others = sorted({pair[side] for pair in study["pairs"] for side in _SIDES} - {first})
    rows = []
    for other in others:
        for question in QUESTIONS:
            won = _won(study["pairs"], raters, first, other, question)
            rows.append({"contestant": first, "other": other, "question": question, **_rate(won, seed)})
    return rows


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format win rates as a Markdown table."""
    lines = ["| | " + " | ".join(QUESTIONS) + " | answers | open |", "|---" * (len(QUESTIONS) + 3) + "|"]
    for other in dict.fromkeys(row["other"] for row in rows):
        own = [row for row in rows if row["other"] == other]
        cells = [
            "–" if row["rate"] is None else f"{row['rate']:.0%} [{row['low']:.0%}, {row['high']:.0%}]" for row in own
        ]
        counts = [str(sum(row[name] for row in own)) for name in ("answers", "open")]
        lines.append("| " + " | ".join([f"{own[0]['contestant']} to {other}", *cells, *counts]) + " |")
    return "\n".join(lines) + "\n"


def _read(path: Path, fields: Mapping[str, type]) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise NestedAdapterError(f"Cannot read {path}: {error}") from error
    if not isinstance(found, dict) or any(not isinstance(found.get(field), kind) for field, kind in fields.items()):
        raise NestedAdapterError(f"{path} is not a file of a study: it must have {', '.join(fields)}.")
    return found


def _read_key(path: Path) -> dict[str, Any]:
    """The key of a study."""
    found = _read(path, {"study": str, "first": str, "pairs": list})
    for number, pair in enumerate(found["pairs"], 1):
        sides = [pair.get(side) for side in _SIDES] if isinstance(pair, dict) else []
        if len(sides) != 2 or not all(isinstance(side, str) for side in sides) or sides.count(found["first"]) != 1:
            raise NestedAdapterError(
                f"{path}, pair {number}, must name {found['first']!r} on one side and another contestant on the other. "
                "Use the key that was written with the page."
            )
    if not found["pairs"]:
        raise NestedAdapterError(f"{path} holds no pairs. Use the key that was written with the page.")
    return found


def _checked(path: Path, study: Mapping[str, Any]) -> dict[str, Any]:
    """One rater's answers."""
    found = _read(path, {"study": str, "rater": str, "answers": list})
    if found["study"] != study["study"]:
        raise NestedAdapterError(f"{path} is of the study {found['study']}, but the key is of {study['study']}.")
    given = found["answers"]
    if len(given) != len(study["pairs"]):
        raise NestedAdapterError(f"{path} holds {len(given)} answers, but the study has {len(study['pairs'])} pairs.")
    for number, answer in enumerate(given, 1):
        if not isinstance(answer, dict) or any(
            question not in QUESTIONS or side not in _SIDES for question, side in answer.items()
        ):
            raise NestedAdapterError(
                f"{path}, answer {number}, must say left or right for some of {', '.join(QUESTIONS)}, got "
                f"{shown(answer)}."
            )
    return found


def _won(
    pairs: Sequence[Mapping[str, Any]], raters: Sequence[Mapping[str, Any]], first: str, other: str, question: str
) -> np.ndarray:
    """(raters, pairs with the other): 1 if the first was preferred, 0 if not, NaN without an answer."""
    own = [i for i, pair in enumerate(pairs) if other in (pair["left"], pair["right"])]
    chosen = [[rater["answers"][i].get(question) for i in own] for rater in raters]
    winner = ["left" if pairs[i]["left"] == first else "right" for i in own]
    return np.array(
        [[np.nan if c is None else float(c == w) for c, w in zip(row, winner, strict=True)] for row in chosen]
    )


def _rate(won: np.ndarray, seed: int) -> dict[str, Any]:
    answered = ~np.isnan(won)
    counts = {
        "answers": int(answered.sum()),
        "raters": int(answered.any(axis=1).sum()),
        "open": int((~answered).sum()),
    }
    if not answered.any():
        return {"rate": None, "low": None, "high": None, **counts}
    rng = np.random.default_rng(seed)
    # how often each rater, and each pair, is drawn: (samples, raters) and (samples, pairs)
    raters, pairs = (rng.multinomial(n, np.full(n, 1 / n), _SAMPLES).astype(float) for n in won.shape)
    total = np.einsum("sr,rp,sp->s", raters, answered.astype(float), pairs)
    wins = np.einsum("sr,rp,sp->s", raters, np.nan_to_num(won), pairs)
    low, high = np.quantile(wins[total > 0] / total[total > 0], [0.025, 0.975])
    return {"rate": float(won[answered].mean()), "low": float(low), "high": float(high), **counts}
