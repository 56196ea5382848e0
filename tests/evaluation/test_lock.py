"""One comparison at a time in a folder."""

import errno
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diffusers_nested import NestedAdapterError
from diffusers_nested.evaluation import evaluate, lock
from diffusers_nested.evaluation.lock import LOCK, only_user

HERE = socket.gethostname()
NOBODY = 2**22 + 1  # more than Linux gives to a process


def leave_behind(folder: Path, process: int = NOBODY, host: str = HERE) -> None:
    """What a process that was killed leaves."""
    (folder / LOCK).write_text(json.dumps({"process": process, "host": host}))


def enter(folder: Path) -> bool:
    with only_user(folder):
        return True


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks."""

    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)


def test_the_second_is_told_who_is_at_work(tmp_path):
    with only_user(tmp_path):
        with pytest.raises(NestedAdapterError, match=rf"process {os.getpid()} on {HERE}.*delete .*\.lock"):
            enter(tmp_path)
        assert (tmp_path / LOCK).exists()
    assert enter(tmp_path)
    assert not list(tmp_path.iterdir())


def test_of_many_at_once_one_is_in(tmp_path):
    """Each leaves and comes back: also who waits for a lock that is being deleted is not let in beside another."""
    inside, seen = [], []

    def come_and_go() -> None:
        for _ in range(200):
            try:
                with only_user(tmp_path):
                    inside.append(None)
                    seen.append(len(inside))
                    inside.pop()
            except NestedAdapterError:
                pass

    with ThreadPoolExecutor(8) as pool:
        for job in [pool.submit(come_and_go) for _ in range(8)]:
            job.result()
    assert set(seen) == {1} and len(seen) > 8


@pytest.mark.parametrize("process", [NOBODY, os.getpid(), os.getppid()], ids=["gone", "number taken", "lives"])
def test_what_a_killed_one_left_does_not_count(tmp_path, process):
    """Nor does another process that has got its number meanwhile."""
    leave_behind(tmp_path, process)
    assert enter(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", '{"process": 1, "ho', "[" * 5000, '{"process": "x", "host": 1}', "[]"])
def test_what_is_not_to_be_read_does_not_count(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    assert enter(tmp_path)


def test_one_of_another_machine_is_for_the_user_to_judge(tmp_path):
    leave_behind(tmp_path, 7, "elsewhere")
    with pytest.raises(NestedAdapterError, match=r"process 7 on elsewhere.*delete .*\.lock"):
        enter(tmp_path)
    (tmp_path / LOCK).unlink()
    assert enter(tmp_path)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_process_is_looked_for(tmp_path):
    leave_behind(tmp_path, os.getppid())
    with pytest.raises(NestedAdapterError, match=f"process {os.getppid()} on"):
        enter(tmp_path)
    leave_behind(tmp_path)
    assert enter(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_comparison_keeps_others_out(settings):
    folder = evaluate(settings())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with only_user(folder), pytest.raises(NestedAdapterError, match="Another comparison"):
        evaluate(settings(contestants={**settings().contestants, "more": {"kind": "plain"}}))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
