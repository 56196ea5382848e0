"""Comparisons from end to end: pictures, rows, failures and summaries."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from comparisons import PEOPLE, TOML, files_of
from diffusers_nested.cli import main
from diffusers_nested.evaluation import evaluate
from diffusers_nested.evaluation.rows import read_rows
from diffusers_nested.evaluation.summary import as_table


def test_every_picture_has_a_row_and_a_file(whole):
    rows = read_rows(whole / "results.jsonl")
    assert Counter((row["contestant"], row["scale"]) for row in rows) == {("plain", 0.0): 12, ("people", 1.0): 12}
    assert len({(row["subject"], row["prompt"], row["seed"]) for row in rows}) == 12
    for row in rows:
        with Image.open(whole / row["picture"]) as picture:
            assert picture.size == (32, 32)
    assert {"settings.json", "summary.json", "trade-off.png", "trade-off.svg"} <= files_of(whole).keys()
    assert len(list((whole / "sheets").iterdir())) == 3
    assert not list(whole.rglob("*.partial")) and not list(whole.glob("rows-*"))


def test_noise_follows_from_the_shot_alone(settings, whole):
    """Neither the batches nor other subjects and seeds matter to what is drawn."""
    few = {"subjects": {"source": "miniature:people", "count": 2}, "contestants": {"only": {"kind": "plain"}}}
    other = evaluate(settings(batch_size=3, seeds=[1], **few))
    names = [str(path.relative_to(other / "pictures" / "only")) for path in (other / "pictures").rglob("*.png")]
    assert len(names) == 4
    for name in names:
        one, two = (
            np.asarray(Image.open(folder / name), int)
            for folder in (other / "pictures" / "only", whole / "pictures" / "plain")
        )
        assert np.abs(one - two).max() <= 2  # sums in batches of another size round otherwise


def test_pictures_need_not_be_kept(settings):
    folder = evaluate(settings(save_pictures=False))
    kept = {row["contestant"] for row in read_rows(folder / "results.jsonl") if row["picture"]}
    assert kept == {"plain"}  # the metric "outside" compares with these
    assert len(list((folder / "pictures").rglob("*.png"))) == 6
    assert not (folder / "sheets").exists()


def test_names_in_other_scripts(settings, tmp_path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    subjects = [{"name": "名前 @-.é", "word": "person", "images": [str(tmp_path / "a.png")]}]
    table = {"Zoë": {"kind": "plain"}, "ß": {"kind": "function", "function": "contestants:painted"}}
    folder = evaluate(settings(subjects=subjects, contestants=table, prompts=["ein {} – «schön»"]))
    rows = read_rows(folder / "results.jsonl")
    assert [(row["contestant"], row["subject"]) for row in rows] == [("Zoë", "名前 @-.é"), ("ß", "名前 @-.é")]
    assert all((folder / row["picture"]).is_file() for row in rows) and (folder / "sheets" / "名前 @-.é.png").is_file()


def test_no_number_is_a_failure(settings):
    metrics = {"text": "miniature-text", "identity": {"kind": "identity", "embed": "contestants:embed_nan"}}
    folder = evaluate(settings(metrics=metrics))
    summary = json.loads((folder / "summary.json").read_text())
    assert [one["scores"]["identity"]["failed"] for one in summary["conditions"]] == [6, 6, 6]


def test_functions_that_the_settings_name_are_said(settings, caplog):
    caplog.set_level("INFO")
    evaluate(settings())
    assert "importing the module contestants, which contestants.painted.function names" in caplog.text


def test_the_command_ends_with_a_table(settings, tmp_path, capsys):
    text = TOML.format(output=tmp_path / "out").replace("count = 3", "count = 1").replace("seeds = 2", "seeds = 1")
    (tmp_path / "settings.toml").write_text(text)
    assert main(["evaluate", str(tmp_path / "settings.toml"), "--batch-size", "2"]) == 0
    out = capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert out == as_table(summary["conditions"])
    assert out.startswith("| contestant |") and "| people | 1 | 2 |" in out


def test_summary_is_over_subjects(whole):
    rows = read_rows(whole / "results.jsonl")
    summary = json.loads((whole / "summary.json").read_text())
    people = next(one for one in summary["conditions"] if one["contestant"] == "people")
    assert (people["pictures"], people["subjects"]) == (12, 3)
    values = [row["scores"]["identity"] for row in rows if row["contestant"] == "people"]
    assert people["scores"]["identity"]["mean"] == pytest.approx(np.mean(values), abs=1e-5)
    shirt = people["scores"]["text shirt"]  # only one of the two prompts names a shirt
    assert (shirt["measured"], shirt["failed"]) == (6, 0)


def test_failures_are_counted(settings):
    metrics = {"text": "miniature-text", "identity": {"kind": "identity", "embed": "contestants:embed"}}
    folder = evaluate(settings(metrics=metrics))
    rows = read_rows(folder / "results.jsonl")
    painted = [row["scores"]["identity"] for row in rows if (row["contestant"], row["scale"]) == ("painted", 2.0)]
    failed = painted.count(None)
    assert 0 < failed < len(painted)
    summary = json.loads((folder / "summary.json").read_text())
    score = next(one for one in summary["conditions"] if one["scale"] == 2.0)["scores"]["identity"]
    assert (score["measured"], score["failed"]) == (len(painted) - failed, failed)


def test_the_pipeline_is_left_as_it_was(settings, loaded_once):
    processors = dict(loaded_once.unet.attn_processors)
    one = {"source": "miniature:people", "count": 1}
    evaluate(settings(contestants={"plain": {"kind": "plain"}, "people": PEOPLE}, subjects=one))
    assert not loaded_once.nested_adapters
    assert all(now is processors[path] for path, now in loaded_once.unet.attn_processors.items())
