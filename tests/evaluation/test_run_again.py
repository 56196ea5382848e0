"""Comparisons that are run again: after a kill, a full disk or lost pictures, by two processes, with other settings."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from comparisons import PEOPLE, TOML, files_of
from diffusers_nested import NestedAdapterError
from diffusers_nested.evaluation import evaluate, read_settings
from diffusers_nested.evaluation.rows import read_rows
from diffusers_nested.evaluation.sweep import _Sweep
from diffusers_nested.files.lock import held
from full_disk import room_for

TESTS = Path(__file__).parents[1]


def environment() -> dict[str, str]:
    """That of a command which computes as this process does, bit for bit."""
    path = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads())}


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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_contestants_may_join(settings):
    folder = evaluate(settings(contestants={"plain": {"kind": "plain"}}))
    rows = read_rows(folder / "results.jsonl")
    joined = settings()
    assert evaluate(joined) == folder
    assert read_rows(folder / "results.jsonl")[: len(rows)] == rows
    assert len(read_rows(folder / "results.jsonl")) == 3 * len(rows)


def test_scales_may_join_and_none_may_leave(settings):
    def with_scales(*scales: float, name: str = "out"):
        painted = {"kind": "function", "function": "contestants:painted", "scales": list(scales)}
        return settings(name, contestants={"plain": {"kind": "plain"}, "painted": painted})

    folder = evaluate(with_scales(2.0))
    kept = {row["picture"]: (folder / row["picture"]).stat().st_mtime_ns for row in read_rows(folder / "results.jsonl")}
    assert evaluate(with_scales(0.5, 2.0)) == folder
    assert files_of(folder) == files_of(evaluate(with_scales(0.5, 2.0, name="at once")))
    assert all((folder / picture).stat().st_mtime_ns == time_ns for picture, time_ns in kept.items())
    with pytest.raises(
        NestedAdapterError, match=r"contestants\.painted\.scales was \[0\.5, 2\.0\] and is \[0\.5, 3\.0\]"
    ):
        evaluate(with_scales(0.5, 3.0))


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
    for beside in ("README.md", "samples/a.png", "log.jsonl", "checkpoint-4/config.json", "evaluation.json"):
        (tmp_path / "mine" / beside).parent.mkdir(exist_ok=True)
        (tmp_path / "mine" / beside).write_text("{}")  # as it is made ready to be published
    evaluate(settings(contestants=mine, **few))
    torch.nn.init.zeros_(adapter.encoder.queries)
    adapter.save_pretrained(tmp_path / "mine")
    with pytest.raises(NestedAdapterError, match=r"contestants\.mine\.files: the files have changed"):
        evaluate(settings(contestants=mine, **few))
    with pytest.raises(NestedAdapterError, match=r"call\.guidance_scale .* is 9\.0.*contestants\.mine is missing"):
        evaluate(settings(contestants={"plain": {"kind": "plain"}}, call={"guidance_scale": 9.0}, **few))


def test_a_comparison_keeps_others_out(settings, ended):
    before = files_of(ended)
    with held(ended, "comparison", "folder"), pytest.raises(NestedAdapterError, match="Another comparison"):
        evaluate(settings(contestants={**settings().contestants, "more": {"kind": "plain"}}))
    assert files_of(ended) == before
