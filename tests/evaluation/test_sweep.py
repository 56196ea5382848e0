"""Comparisons from end to end."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_nested import NestedAdapterError
from diffusers_nested.cli import main
from diffusers_nested.evaluation import evaluate, read_settings
from diffusers_nested.evaluation.rows import read_rows
from diffusers_nested.evaluation.summary import as_table
from diffusers_nested.evaluation.sweep import _Sweep
from diffusers_nested.files.lock import held
from full_disk import room_for

TESTS = Path(__file__).parents[1]
PEOPLE = {"kind": "nested", "adapter": "miniature:people", "scales": [1.0]}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def environment() -> dict[str, str]:
    """That of a command which computes as this process does, bit for bit."""
    path = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads())}


TOML = """
output = "{output}"
prompts = ["a photo of a {{}} on the beach", "a watercolor of a {{}} wearing a red shirt"]
seeds = 2
batch_size = 4
call = {{ num_inference_steps = 2 }}
subjects = {{ source = "miniature:people", count = 3 }}
[contestants]
plain = {{ kind = "plain" }}
people = {{ kind = "nested", adapter = "miniature:people", scales = [1.0] }}
[metrics]
text = "miniature-text"
identity = "miniature-identity"
outside = {{ kind = "outside", box = [0.1, 0, 0.9, 1] }}
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a comparison that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "settings.toml").write_text(TOML.format(output=folder / "out"))
    return evaluate(read_settings(folder / "settings.toml"))


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


def test_killed_and_run_again_is_undisturbed(whole, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "settings.toml").write_text(TOML.format(output=out))
    command = [sys.executable, "-m", "diffusers_nested.cli", "evaluate", str(tmp_path / "settings.toml")]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (out / "rows-00000.jsonl").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    kept = len(read_rows(out / "rows-00000.jsonl"))
    assert process.returncode == -signal.SIGKILL and kept < 24
    with (out / "rows-00000.jsonl").open("a") as file:
        file.write('{"contestant": "plain", "scale": 0')  # as if killed in the middle of a row
    capsys.readouterr()
    evaluate(read_settings(tmp_path / "settings.toml"))
    left = 24 - kept // 4 * 4
    assert f"{left}/{left}" in capsys.readouterr().err  # what was there is not made again
    assert files_of(out) == files_of(whole)


def test_two_processes_give_the_rows_of_one(whole, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "settings.toml").write_text(TOML.format(output=out))
    # on CPUs, accelerate launches several processes by MPI only; what it does on GPUs is this
    command = [sys.executable, "-m", "two_processes", "evaluate", str(tmp_path / "settings.toml")]
    finished = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    done = re.findall(r"(\d+)/\1 ", finished.stderr)  # by the one that shows its progress
    assert done and 0 < int(done[-1]) < 24
    assert files_of(out) == files_of(whole)


def test_cut_off_after_every_batch_is_undisturbed(settings, ended, monkeypatch):
    expected = files_of(ended)
    do = _Sweep._do

    def do_one(self, *args):
        if self._writer._path.exists():
            raise KeyboardInterrupt
        do(self, *args)

    for _ in range(2 * 3 - 1):  # batches times conditions; the last one would not be stopped
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_Sweep, "_do", do_one)
            evaluate(settings("cut"))
    assert files_of(evaluate(settings("cut"))) == expected


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


def test_lost_pictures_are_made_again(settings, ended):
    folder = ended
    before = files_of(folder)
    for path in list((folder / "pictures").rglob("prompt-01-seed-0.png")):
        path.unlink()
    assert files_of(evaluate(settings())) == before


def test_pictures_that_are_cut_off_are_made_again(settings, ended):
    """The plain pipeline's too, which a metric compares with."""
    folder = ended
    before = files_of(folder)
    cut = {"plain": lambda data: data[:-9], "painted/0.5": lambda data: b"", "painted/2": lambda data: bytes(len(data))}
    for name, damage in cut.items():
        for path in (folder / "pictures" / name).rglob("prompt-02-seed-0.png"):
            path.write_bytes(damage(path.read_bytes()))
    assert files_of(folder) != before
    assert files_of(evaluate(settings())) == before


def test_a_full_disk(settings, ended):
    """What is there is whole, and it goes on when there is room again."""
    expected = files_of(ended)
    for size in (100, 12_000, 50_000):
        with room_for(size), pytest.raises(OSError, match="No space left"):
            evaluate(settings("full"))
        for name, content in files_of(settings("full").folder).items():
            assert name.endswith(".jsonl") or content == expected[name]
    assert files_of(evaluate(settings("full"))) == expected


@pytest.fixture(scope="module")
def painted(tmp_path_factory) -> dict[str, Path]:
    """Where the comparison that ``settings`` describes is kept, once a test has made it."""
    return {"folder": tmp_path_factory.mktemp("painted") / "out"}


@pytest.fixture
def ended(painted, settings) -> Path:
    """A copy of that comparison, as the output of ``settings``."""
    if not painted["folder"].exists():
        evaluate(settings(output=painted["folder"]))
    return Path(shutil.copytree(painted["folder"], settings().folder))


def test_a_broken_row_is_named_and_nothing_is_made(settings, ended):
    folder = ended
    lines = (folder / "results.jsonl").read_text().split("\n")
    (folder / "results.jsonl").write_text("\n".join([*lines[:3], lines[3][:40], *lines[4:]]))
    before = files_of(folder)
    with pytest.raises(NestedAdapterError, match=r"results\.jsonl, line 4, "):
        evaluate(settings())
    assert files_of(folder) == before


def test_results_of_settings_that_are_not_known(settings, ended):
    folder = ended
    for text in (None, "", "[1]", '{"contestants": 3}', "[" * 100_000):
        (folder / "settings.json").unlink(missing_ok=True)
        if text is not None:
            (folder / "settings.json").write_text(text)
        before = files_of(folder)
        with pytest.raises(NestedAdapterError, match=r"settings\.json.*another folder"):
            evaluate(settings())
        assert files_of(folder) == before


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


def test_contestants_may_join(settings):
    folder = evaluate(settings(contestants={"plain": {"kind": "plain"}}))
    rows = read_rows(folder / "results.jsonl")
    joined = settings()
    assert evaluate(joined) == folder
    assert read_rows(folder / "results.jsonl")[: len(rows)] == rows
    assert len(read_rows(folder / "results.jsonl")) == 3 * len(rows)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"call": {"num_inference_steps": 3}}, "call"),
        ({"seeds": 2}, "seeds"),
        ({"subjects": {"source": "miniature:pets", "count": 3}}, "subjects"),
        ({"contestants": {"plain": {"kind": "plain"}}}, "contestants.painted"),
    ],
)
def test_other_settings_are_refused(settings, ended, changes, named):
    before = files_of(ended)
    with pytest.raises(NestedAdapterError, match=named):
        evaluate(settings(**changes))
    assert files_of(ended) == before


def test_an_adapter_that_changed_is_noticed(settings, tmp_path):
    from diffusers_nested import NestedAdapter, miniature

    adapter = NestedAdapter.from_pretrained(miniature.path("people"))
    adapter.save_pretrained(tmp_path / "mine")
    mine = {"plain": {"kind": "plain"}, "mine": {**PEOPLE, "adapter": str(tmp_path / "mine")}}
    few = {"subjects": {"source": "miniature:people", "count": 1}, "seeds": 1}
    for part in ("image_encoder", "feature_extractor"):
        (tmp_path / "mine" / part).symlink_to(miniature.path("people") / part)
    evaluate(settings(contestants=mine, **few))
    torch.nn.init.zeros_(adapter.encoder.queries)
    adapter.save_pretrained(tmp_path / "mine")
    with pytest.raises(NestedAdapterError, match=r"contestants\.mine"):
        evaluate(settings(contestants=mine, **few))


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


def test_a_comparison_keeps_others_out(settings, ended):
    before = files_of(ended)
    with held(ended, "comparison", "folder"), pytest.raises(NestedAdapterError, match="Another comparison"):
        evaluate(settings(contestants={**settings().contestants, "more": {"kind": "plain"}}))
    assert files_of(ended) == before
