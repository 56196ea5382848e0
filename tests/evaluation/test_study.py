"""Blind comparisons: which pairs, what the page shows and keeps, and what the answers come to."""

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import browser
from diffusers_nested import NestedAdapterError
from diffusers_nested.cli import main
from diffusers_nested.evaluation.rows import RowWriter, gather_rows, key_of
from diffusers_nested.evaluation.study import choose_pairs, win_rates, write_page

SIDES = (("ours", 1.0), ("ours", 2.0), ("theirs", 0.5), ("plain", 0.0))
COLOURS = {"ours": (200, 0, 0), "theirs": (0, 200, 0), "plain": (0, 0, 200)}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The folder of a comparison; the colour of a picture says who made it."""
    folder, rows = tmp_path / "results", []
    for number in range(3):
        photo = folder / "photos" / f"ada-{number}" / "word-1-photo-1.png"
        photo.parent.mkdir(parents=True)
        Image.new("RGB", (32, 32), (number, 9, 9)).save(photo)
        for contestant, scale in SIDES:
            for prompt in ("a person <b>&", "a person </script>"):
                name = f"pictures/{contestant}-{scale}-{number}-{len(prompt)}.png"
                (folder / name).parent.mkdir(exist_ok=True)
                Image.new("RGB", (32, 32), COLOURS[contestant]).save(folder / name)
                row = {"contestant": contestant, "scale": scale, "subject": f"ada-{number}", "prompt": prompt}
                rows.append({**row, "seed": 0, "picture": name, "scores": {}})
    RowWriter(folder, 0).append(rows)
    gather_rows(folder, [key_of(row) for row in rows])
    return folder


def maker(picture: Path) -> str:
    with Image.open(picture) as image:
        colour = image.getpixel((0, 0))
    return next(name for name, own in COLOURS.items() if own == colour)


def test_pairs_are_of_one_shot_and_balanced(results):
    pairs = choose_pairs([results], ["ours@2", "theirs", "plain"], 8)
    assert Counter(str(other) for pair in pairs for other in set(pair.sides) - {pair.first}) == {
        "theirs@0.5": 4,
        "plain@0": 4,
    }
    assert {str(pair.first) for pair in pairs} == {"ours@2"}
    for pair in pairs:
        assert [side.contestant for side in pair.sides] == [maker(picture) for picture in pair.pictures]
        assert pair.photos == (results / "photos" / pair.subject / "word-1-photo-1.png",)
    assert choose_pairs([results], ["ours@2", "theirs", "plain"], 8) == pairs
    assert choose_pairs([results], ["ours@2", "theirs", "plain"], 8, seed=1) != pairs


def test_sides_and_order_are_drawn_by_lot(results):
    pairs = choose_pairs([results], ["ours@1.0", "theirs@0.50"], 6)
    assert len(pairs) == 6 and len({(pair.subject, pair.prompt) for pair in pairs}) == 6
    assert Counter(pair.sides[0].contestant for pair in pairs) == {"ours": 3, "theirs": 3}
    assert [(pair.subject, pair.prompt) for pair in pairs] != sorted((pair.subject, pair.prompt) for pair in pairs)


@pytest.mark.parametrize(
    ("named", "match"),
    [
        (["ours", "theirs"], "several scales"),
        (["ours@3", "theirs"], "not among"),
        (["nobody", "theirs"], "theirs@0.5"),
        (["ours@1"], "two different"),
        (["ours@1", "ours@1"], "two different"),
        ([], "two different"),
    ],
)
def test_contestants_that_are_not_clear(results, named, match):
    with pytest.raises(NestedAdapterError, match=match):
        choose_pairs([results], named, 4)


def test_folders_without_pictures(results, tmp_path):
    with pytest.raises(NestedAdapterError, match="no results"):
        choose_pairs([tmp_path], ["ours@1", "theirs"], 4)
    for picture in (results / "pictures").iterdir():
        picture.unlink()
    with pytest.raises(NestedAdapterError, match="save_pictures"):
        choose_pairs([results], ["ours@1", "theirs"], 4)


def test_the_page_names_nobody(results, tmp_path):
    key = write_page(choose_pairs([results], ["ours@2", "theirs"], 4), tmp_path / "study.html")
    page = (tmp_path / "study.html").read_text()
    assert "theirs" not in page and "ours@" not in page and str(results) not in page
    assert "http:" not in page and "https:" not in page  # it needs nothing from elsewhere
    pairs = json.loads(key.read_text())["pairs"]
    assert [{pair["left"], pair["right"]} for pair in pairs] == [{"ours@2", "theirs@0.5"}] * 4


def answers(key: Path, path: Path, rater: str, choose) -> Path:
    """A rater's file; ``choose(number, pair)`` gives the answers on a pair."""
    study = json.loads(key.read_text())
    given = [choose(i, pair) for i, pair in enumerate(study["pairs"])]
    path.write_text(json.dumps({"study": study["study"], "rater": rater, "answers": given}))
    return path


def test_win_rates(results, tmp_path):
    key = write_page(choose_pairs([results], ["ours@2", "theirs", "plain"], 12), tmp_path / "study.html")

    def for_ours(i, pair):
        ours = "left" if pair["left"] == "ours@2" else "right"
        other = {"left": "right", "right": "left"}[ours]
        return {"prompt": ours, "identity": ours if i % 2 else other, **({"overall": other} if i < 6 else {})}

    files = [answers(key, tmp_path / f"{name}.json", name, for_ours) for name in ("x", "y")]
    rows = {(row["other"], row["question"]): row for row in win_rates(key, files)}
    pairs = json.loads(key.read_text())["pairs"]
    for other in ("theirs@0.5", "plain@0"):
        own = [i for i, pair in enumerate(pairs) if other in (pair["left"], pair["right"])]
        prompt, identity, overall = (rows[other, question] for question in ("prompt", "identity", "overall"))
        assert (prompt["rate"], prompt["low"], prompt["high"], prompt["answers"]) == (1.0, 1.0, 1.0, 12)
        assert identity["rate"] == pytest.approx(np.mean([i % 2 for i in own]))
        assert identity["low"] < identity["rate"] < identity["high"]
        answered = 2 * sum(i < 6 for i in own)
        assert (overall["rate"], overall["answers"], overall["open"]) == (0.0, answered, 12 - answered)


def test_intervals_know_that_raters_and_pairs_repeat(results, tmp_path):
    """Raters who agree say no more on the pairs than one of them."""
    key = write_page(choose_pairs([results], ["ours@2", "theirs"], 6), tmp_path / "study.html")

    def half(i, pair):
        ours = "left" if pair["left"] == "ours@2" else "right"
        side = ours if i % 2 else {"left": "right", "right": "left"}[ours]
        return dict.fromkeys(("prompt", "identity", "overall"), side)

    one = [answers(key, tmp_path / "one.json", "one", half)]
    many = one + [answers(key, tmp_path / f"{i}.json", str(i), half) for i in range(9)]
    (narrow, *_), (wide, *_) = win_rates(key, many), win_rates(key, one)
    assert narrow["rate"] == wide["rate"] == 0.5
    assert narrow["high"] - narrow["low"] == pytest.approx(wide["high"] - wide["low"], abs=0.1)
    assert wide["high"] - wide["low"] > 0.5


def test_answers_that_do_not_belong(results, tmp_path):
    key = write_page(choose_pairs([results], ["ours@2", "theirs"], 4), tmp_path / "study.html")
    other = write_page(choose_pairs([results], ["ours@1", "plain"], 4), tmp_path / "other.html")
    good = answers(key, tmp_path / "good.json", "x", lambda i, pair: {})
    copy = answers(key, tmp_path / "copy.json", "x", lambda i, pair: {})
    foreign = answers(other, tmp_path / "foreign.json", "y", lambda i, pair: {})
    odd = answers(key, tmp_path / "odd.json", "z", lambda i, pair: {"prompt": "both"})
    for files, match in (
        ([good, copy], "same rater"),
        ([foreign], "of the study"),
        ([odd], "left or right"),
        ([key], "must have"),
        ([results / "results.jsonl"], "Cannot read"),
        ([], "no answers"),
    ):
        with pytest.raises(NestedAdapterError, match=match):
            win_rates(key, files)
    assert all(row["rate"] is None for row in win_rates(key, [good]))


def test_commands(results, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", str(results), "--contestant", "ours@2", "--contestant", "theirs", "--pairs", "4"]) == 0
    key = tmp_path / "study.key.json"
    file = answers(key, tmp_path / "a.json", "x", lambda i, pair: {"prompt": "left"})
    assert main(["study", "--answers", str(file), "--output", "rates.json"]) == 0
    assert "| ours@2 to theirs@0.5 |" in capsys.readouterr().out
    assert [row["answers"] for row in json.loads((tmp_path / "rates.json").read_text())] == [4, 0, 0]
    assert main(["study"]) == 2 and main(["study", str(results), "--answers", str(file)]) == 2


@pytest.mark.skipif(not (browser.BROWSER and browser.DRIVER), reason="needs chromium and chromedriver")
def test_in_a_browser(results, tmp_path):
    """A rater answers, closes the page, goes on, and saves; the file gives the win rates of the choices."""
    key = write_page(choose_pairs([results], ["ours@2", "theirs"], 3), tmp_path / "study.html")
    pairs = json.loads(key.read_text())["pairs"]
    with browser.browser(tmp_path / "profile", tmp_path) as page:
        page.open(tmp_path / "study.html")
        page.click("#start")
        for at, pair in enumerate(pairs):
            ours = "left" if pair["left"] == "ours@2" else "right"
            assert page.text("#prompt") == pair["prompt"]  # as text, whatever is in it
            shown = page.run("return ['left', 'right'].map((id) => document.getElementById(id).src)")
            assert len(set(shown)) == 2 and all(uri.startswith("data:image/png") for uri in shown)
            assert page.attribute("#next", "disabled") == "true"
            page.click(f"#prompt-{ours}")
            if at == 1:
                page.reload()
                assert page.attribute(f"#prompt-{ours}", "aria-pressed") == "true"
            page.press("a" if ours == "left" else "b")  # identity
            page.click(f"#overall-{'right' if ours == 'left' else 'left'}")
            page.click("#next")
        assert page.is_shown("#end") and not page.is_shown("#compare")
        page.click("#save")
        deadline = time.monotonic() + 60
        while not (saved := list(tmp_path.glob("answers-*.json"))) and time.monotonic() < deadline:
            time.sleep(0.05)
    rates = {row["question"]: (row["rate"], row["answers"], row["open"]) for row in win_rates(key, saved)}
    assert rates == {"prompt": (1.0, 3, 0), "identity": (1.0, 3, 0), "overall": (0.0, 3, 0)}
