"""`diffusers-nested inspect` on folders and repositories."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from safetensors import safe_open

from diffusers_nested import miniature
from diffusers_nested.adapter import inspect_adapter
from diffusers_nested.cli import main
from diffusers_nested.cli.inspect import describe
from diffusers_nested.files.source import Source

FOLDER = miniature.path("people")
WEIGHTS = "diffusion_pytorch_model.safetensors"
COMMIT = "c" * 40


def count(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        return sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118


def check(output: str, name: str):
    facts = dict(re.match(r"(\S+(?: \S+)*)\s{2,}(.+)", line).groups() for line in output.splitlines()[:9])
    assert facts["adapter"] == name
    assert facts["word"] == "person"
    assert facts["subject tokens"].startswith("32 ") and facts["subject tokens"].endswith(" 160")
    assert facts["base family"] == "sdxl, 7 layers"
    assert facts["mechanism"] == "nested, alpha 2.0"
    assert facts["Q-Former"] == "3 blocks of width 128, 4 heads, feed-forward 384"
    assert facts["image encoder"].startswith("image_encoder/")
    assert facts["format version"] == "1"
    parameters = count(FOLDER / WEIGHTS)
    assert facts["parameters"].startswith(f"{parameters / 1e6:.2f} M")
    files = {name: rest for name, *rest in (line.split("  ") for line in output.strip().split("\n  ")[1:])}
    assert files[WEIGHTS] == [f"{(FOLDER / WEIGHTS).stat().st_size / 1e6:.1f} MB", f"{parameters / 1e6:.2f} M F16"]
    assert set(files) == {WEIGHTS, "image_encoder/model.safetensors"}


def test_folder(capsys: pytest.CaptureFixture):
    assert main(["inspect", str(FOLDER)]) == 0
    check(capsys.readouterr().out, str(FOLDER))


def test_subfolder(capsys: pytest.CaptureFixture):
    assert main(["inspect", str(FOLDER.parent), "--subfolder", "people"]) == 0
    check(capsys.readouterr().out, str(FOLDER.parent))


def test_how_photos_are_prepared(tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = shutil.copytree(FOLDER, tmp_path / "adapter")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "image_preparation": "aligned_face"}))
    assert main(["inspect", str(folder)]) == 0
    assert re.search(r"^photos +aligned faces, .*prepare_face", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}'),
        lambda folder: (folder / WEIGHTS).write_bytes(b"no weights"),
    ],
    ids=["no config", "another model", "damaged weights"],
)
def test_folder_that_is_no_adapter(tmp_path: Path, capsys: pytest.CaptureFixture, damage):
    folder = shutil.copytree(FOLDER, tmp_path / "adapter")
    damage(folder)
    assert main(["inspect", str(folder)]) == 2
    shown = capsys.readouterr()
    assert str(folder) in shown.err and not shown.out


class OneRepository(BaseHTTPRequestHandler):
    """Just enough of the Hub's protocol: "user/people" at one commit, with range requests."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))
        name = re.match(rf"/user/people/resolve/(?:main|{COMMIT})/([^?]+)", self.path)
        if re.match(rf"/api/models/user/people(/revision/(main|{COMMIT}))?(\?|$)", self.path):
            files = [path for path in FOLDER.rglob("*") if path.is_file()]
            siblings = [{"rfilename": str(p.relative_to(FOLDER)), "size": p.stat().st_size} for p in files]
            self.answer(200, json.dumps({"id": "user/people", "sha": COMMIT, "siblings": siblings}).encode())
        elif name is not None and (FOLDER / name[1]).is_file():
            data = (FOLDER / name[1]).read_bytes()
            part = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            self.answer(206 if part else 200, data[int(part[1]) : int(part[2]) + 1] if part else data)
        else:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound" if name is None else "EntryNotFound"})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        given = {"X-Repo-Commit": COMMIT, "ETag": '"e"', "Content-Length": str(len(body)), **(headers or {})}
        for key, value in given.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), OneRepository)
    server.asked = []
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def inspect(server: ThreadingHTTPServer, home: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run in a separate process, as huggingface_hub reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(home)}
    command = [sys.executable, "-m", "diffusers_nested.cli", "inspect", *arguments]
    return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_repository(server: ThreadingHTTPServer, tmp_path: Path):
    done = inspect(server, tmp_path, "user/people")
    assert done.returncode == 0, done.stderr
    check(done.stdout, "user/people")
    assert not done.stderr  # not even the note of transformers on torchvision
    whole = [path for command, path in server.asked if command == "GET" and path.endswith(".safetensors")]
    assert len(whole) == 2  # a range of each
    assert not list(tmp_path.rglob("*.safetensors"))
    cached = Source("user/people", cache_dir=tmp_path / "hub", local_files_only=True)
    offline = describe("user/people", inspect_adapter(cached)).splitlines()
    assert offline[:7] == done.stdout.splitlines()[:7]
    assert "none" in offline[-1]


def test_no_such_repository(hub, capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", "user/nothing"]) == 2
    out, err = capsys.readouterr()
    assert "user/nothing" in err and "Traceback" not in err and not out
