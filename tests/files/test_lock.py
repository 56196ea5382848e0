"""Locks that keep a folder to one process at a time."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diffusers_nested import NestedAdapterError
from diffusers_nested.files.lock import LOCK, held


def enter(folder: Path) -> bool:
    with held(folder, "run", "output_dir"):
        return True


def test_the_second_is_kept_out(tmp_path):
    with held(tmp_path / "run", "run", "output_dir"):
        with pytest.raises(NestedAdapterError, match=r"Another run works in .*output_dir"):
            enter(tmp_path / "run")
        assert enter(tmp_path / "other")
    with held(tmp_path / "run", "run", "output_dir"):
        (tmp_path / "run" / "kept").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_of_many_at_once_one_is_in(tmp_path):
    inside, seen = [], []

    def come_and_go() -> None:
        for _ in range(100):
            try:
                with held(tmp_path, "run", "output_dir"):
                    inside.append(None)
                    seen.append(len(inside))
                    inside.pop()
            except NestedAdapterError:
                pass

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(come_and_go) for _ in range(4)]:
            job.result()
    assert set(seen) == {1} and len(seen) > 4


def test_a_killed_process_holds_nothing(tmp_path):
    code = "import os, sys, filelock; filelock.FileLock(sys.argv[1]).acquire(); os._exit(1)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / LOCK)], check=False)
    assert enter(tmp_path)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(NestedAdapterError, match=f"Cannot write to output_dir {path}"):
            enter(path)
