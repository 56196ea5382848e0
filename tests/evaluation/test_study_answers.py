"""Blind comparisons: raters answer on the page, and what their answers come to."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

import browser
from diffusers_nested import NestedAdapterError
from diffusers_nested.cli import main
from diffusers_nested.evaluation.study import choose_pairs, win_rates, write_page


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


MALFORMED = [
    *("", "{", "[]", "null", "[" * 100_000, b"\xff\xfe"),
    *(
        {"answers": answers}
        for answers in (None, {}, [], [None] * 4, [[]] * 4, [{"prompt": 1}] * 4, [{"taste": "left"}] * 4)
    ),
    *({"answers": [{"prompt": ["left"]}] * 4}, {"rater": ["x"]}, {"rater": None}, {"study": 3}),
]


@pytest.mark.parametrize("content", MALFORMED, ids=lambda content: str(content)[:40])
def test_answers_that_are_malformed(results, tmp_path, content):
    key = write_page(choose_pairs([results], ["ours@2", "theirs"], 4), tmp_path / "study.html")
    file = answers(key, tmp_path / "answers.json", "x", lambda i, pair: {})
    if isinstance(content, dict):
        content = json.dumps({**json.loads(file.read_text()), **content})
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(NestedAdapterError, match=r"answers\.json"):
        win_rates(key, [file])


@pytest.mark.parametrize(
    "changed",
    [
        *({"pairs": pairs} for pairs in (None, {}, [], [None], [{}], [{"left": "ours@2"}], [{"left": 1, "right": 2}])),
        {"pairs": [{"left": "theirs@0.5", "right": "plain@0"}]},
        {"first": 3},
        {"first": "nobody"},
    ],
    ids=str,
)
def test_keys_that_are_malformed(results, tmp_path, changed):
    key = write_page(choose_pairs([results], ["ours@2", "theirs"], 4), tmp_path / "study.html")
    file = answers(key, tmp_path / "answers.json", "x", lambda i, pair: {})
    key.write_text(json.dumps({**json.loads(key.read_text()), **changed}))
    with pytest.raises(NestedAdapterError, match=r"study\.key\.json"):
        win_rates(key, [file])


def test_commands(results, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", str(results), "--contestant", "ours@2", "--contestant", "theirs", "--pairs", "4"]) == 0
    key = tmp_path / "study.key.json"
    file = answers(key, tmp_path / "a.json", "x", lambda i, pair: {"prompt": "left"})
    assert main(["study", "--answers", str(file), "--output", "rates.json"]) == 0
    assert "| ours@2 to theirs@0.5 |" in capsys.readouterr().out
    assert [row["answers"] for row in json.loads((tmp_path / "rates.json").read_text())] == [4, 0, 0]
    assert main(["study"]) == 2 and main(["study", str(results), "--answers", str(file)]) == 2


def downloads(folder: Path, count: int) -> list[Path]:
    """The files of answers in a folder, as soon as there are so many; the browser first makes empty ones."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        saved = sorted(folder.glob("answers-*.json"))
        if len(saved) >= count and not list(folder.glob("*.crdownload")) and all(sizes_of(saved)):
            return saved
        time.sleep(0.05)
    raise TimeoutError(f"{folder} does not hold {count} files of answers.")


def sizes_of(files: list[Path]) -> list[int]:
    """The size of each file; 0 for one that is being replaced."""
    return [file.stat().st_size if file.exists() else 0 for file in files]


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
                assert page.is_shown("#back-again") and not page.is_shown("#compare")
                page.click("#continue")
                assert page.attribute(f"#prompt-{ours}", "aria-pressed") == "true"
            page.press("a" if ours == "left" else "b")  # identity
            page.click(f"#overall-{'right' if ours == 'left' else 'left'}")
            page.click("#next")
        assert page.is_shown("#end") and not page.is_shown("#compare")
        page.click("#save")
        saved = downloads(tmp_path, 1)
    rates = {row["question"]: (row["rate"], row["answers"], row["open"]) for row in win_rates(key, saved)}
    assert rates == {"prompt": (1.0, 3, 0), "identity": (1.0, 3, 0), "overall": (0.0, 3, 0)}


@pytest.mark.skipif(not (browser.BROWSER and browser.DRIVER), reason="needs chromium and chromedriver")
def test_two_raters_in_one_browser(results, tmp_path):
    """Each has a file; what the first has answered is saved before the second begins, also if not all of it is."""
    key = write_page(choose_pairs([results], ["ours@2", "theirs"], 3), tmp_path / "study.html")
    with browser.browser(tmp_path / "profile", tmp_path) as page:
        page.open(tmp_path / "study.html")
        page.click("#start")
        page.click("#prompt-left")
        page.click("#save-early")
        (first,) = downloads(tmp_path, 1)
        assert [len(one) for one in json.loads(first.read_text())["answers"]] == [1, 0, 0]
        page.click("#identity-left")
        page.click("#overall-left")
        first.unlink()
        page.reload()
        assert page.text("#back-again").startswith("Welcome back\nSomebody has begun in this browser: 1 of 3")
        page.click("#anew")
        downloads(tmp_path, 1)
        page.click("#start")
        assert page.attribute("#prompt-left", "aria-pressed") == "false"
        page.click("#prompt-right")
        page.click("#save-early")
        saved = downloads(tmp_path, 2)
    rows = [row for row in win_rates(key, saved) if row["question"] == "prompt"]
    assert [row["answers"] for row in rows] == [2]


def test_what_is_no_table_of_win_rates_is_not_replaced(results, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = ["study", str(results), "--contestant", "ours@2", "--contestant", "theirs", "--pairs", "4"]
    assert main(page) == 0
    answers(tmp_path / "study.key.json", tmp_path / "a.json", "x", lambda i, pair: {"prompt": "left"})
    (tmp_path / "picture.png").touch()
    before = {file: file.read_bytes() for file in tmp_path.glob("*.*") if file.is_file()}
    for output in ("study.key.json", "a.json", "picture.png", "results"):
        assert main(["study", "--answers", "a.json", "--output", output]) == 2
        out, err = capsys.readouterr()
        assert output in err and not out
    for output in ("picture.png", "results"):
        assert main([*page, "--output", output]) == 2 and output in capsys.readouterr().err
    assert main(["study", "--answers", "a.json", "--pairs", "3"]) == 2
    assert "--pairs is for the page" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in tmp_path.glob("*.*") if file.is_file()} == before
    for _ in range(2):  # with more answers, the table is written again
        assert main(["study", "--answers", "a.json", "--output", "rates.json"]) == 0


def test_files_of_one_rater_are_named(results, tmp_path):
    key = write_page(choose_pairs([results], ["ours@2", "theirs"], 4), tmp_path / "study.html")
    files = [answers(key, tmp_path / f"{name}.json", name[0], lambda i, pair: {}) for name in ("x1", "y", "x2")]
    with pytest.raises(NestedAdapterError, match=r"x1\.json and .*x2\.json are by the same rater"):
        win_rates(key, files)
