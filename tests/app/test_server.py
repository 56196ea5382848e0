"""The app over HTTP, as a browser talks to it."""

import argparse
import gc
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import browser
from diffusers_nested import cli, miniature
from diffusers_nested.app.serve import require_gradio, serving, uploads

# gradio leaves event loops to the garbage collector, and sets an option that pandas has given up
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:'future.no_silent_downcasting' is deprecated",
    "ignore:The copy keyword is deprecated",
)
PROMPT = "a photo of a person on the beach"


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["app"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("diffusers-nested app: The app needs the extra 'app', which is not installed.")


class App(NamedTuple):
    address: str
    folder: Path
    client: Any

    def draw(
        self, prompt: str = PROMPT, photos: Sequence[Path] = (), word: str = "person", scale: float | None = 1
    ) -> Any:
        from gradio_client import handle_file  # pyright: ignore[reportMissingImports]

        given = [{"image": handle_file(file), "caption": None} for file in photos]
        nobody = [None, "", "", 0.5, None]
        settings = ["", scale, 0, 2, 4, "One picture", True]
        return self.client.predict(prompt, *settings, given, word, "", 0.5, None, *nobody, *nobody, api_name="/draw")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with uploads() as folder:
        pytest.importorskip("gradio")
        from gradio_client import Client  # pyright: ignore[reportMissingImports]

        require_gradio()
        parser = argparse.ArgumentParser()
        cli.app.add_arguments(parser)
        with serving(cli.app.page_of(parser.parse_args([]))) as address:
            downloads = tmp_path_factory.mktemp("downloads")
            yield App(
                address, folder, Client(address, download_files=downloads, verbose=False, analytics_enabled=False)
            )
    assert not folder.exists()
    gc.collect()  # here, where its warnings are ignored


def pixels(file: Any) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture)


def status_of(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_pictures_side_by_side(app: App):
    mira = Path(str(miniature.path())).parents[1] / "examples" / "mira.png"
    plain, personal, maps, series = app.draw(photos=[mira])
    again, without, _, _ = app.draw()
    assert pixels(plain).shape == (256, 256, 3) and np.array_equal(pixels(plain), pixels(again))
    assert not np.array_equal(pixels(plain), pixels(personal))
    assert without is None and not series["value"]
    assert pixels(maps["value"]["image"]).shape == (256, 256, 3)
    assert [one["label"] for one in maps["value"]["annotations"]] == ["person", "photo", "beach"]


@pytest.mark.skipif(not (browser.BROWSER and browser.DRIVER), reason="needs chromium and chromedriver")
def test_a_visitor_drops_a_photo_draws_and_points_at_words(app: App, tmp_path: Path):
    shown = "return document.querySelector('{}')?.src ?? ''"
    picture, photo = shown.format("#personal img"), shown.format(".thumbnail-item img, .preview img")
    with browser.browser(tmp_path / "profile", tmp_path / "downloads") as visitor:
        visitor.open(app.address)
        visitor.wait("return !!document.querySelector('#draw')")
        visitor.click("#draw")
        visitor.wait(picture)
        before = visitor.run(picture)
        other = miniature.example("mira").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        other.save(tmp_path / "other.png")
        visitor.click("button[aria-label=Clear]")
        visitor.wait("return !document.querySelector('.thumbnail-item img')")
        visitor.fill("input[type=file]", str(tmp_path / "other.png"))
        visitor.wait(photo)
        visitor.click("#draw")
        visitor.wait(f"const now = (() => {{{picture}}})(); return now && now != {before!r}")
        visitor.wait("return document.querySelectorAll('#maps .legend-item').length == 3")
        seen = "return [...document.querySelectorAll('#maps .mask')].map(one => getComputedStyle(one).opacity)"
        visitor.click("#maps .legend-item:nth-child(2)")
        visitor.wait(f"return (() => {{{seen}}})().join() == '0,1,0'")
        visitor.click("#draw")  # the pointer leaves the word
        visitor.wait(f"return (() => {{{seen}}})().every(one => one == '0')")


def test_a_port_that_is_taken_is_told_before_models_are_loaded(capsys: pytest.CaptureFixture):
    pytest.importorskip("gradio")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli.main(["app", "--pipeline", "nowhere", "--server-port", port]) == 2
    message = capsys.readouterr().err
    assert f"cannot listen at port {port} of 127.0.0.1: " in message and "launch" not in message


def test_errors_are_said_in_words(app: App, tmp_path: Path):
    from gradio_client.exceptions import AppError  # pyright: ignore[reportMissingImports]

    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    mira = Path(str(miniature.path())).parents[1] / "examples" / "mira.png"
    cases = [
        ({"prompt": ""}, "The prompt is empty"),
        ({"photos": [text]}, "Photo 1 of Subject 1 cannot be read"),
        ({"photos": [mira], "word": "pirate", "prompt": "a pirate"}, "Choose its adapter beside the word"),
        ({"photos": [mira], "prompt": "a photo of a <b>pet"}, "The word 'person' is not in the prompt"),
        ({"scale": 1e9}, "4"),
        ({"scale": None}, "The scale is empty, expected a number of at least 0"),
    ]
    for keywords, message in cases:
        with pytest.raises(AppError, match=message) as caught:
            app.draw(**keywords)
        assert "Traceback" not in str(caught.value) and "<b>" not in str(caught.value)


def test_files_of_the_machine_are_not_served(app: App):
    assert app.address.startswith("http://127.0.0.1:")
    assert status_of(app.address) == 200
    uploaded = next(file for file in app.folder.rglob("*") if file.is_file())
    assert status_of(f"{app.address}gradio_api/file={uploaded}") == 200
    hidden = [__file__, "/etc/passwd", f"{app.folder}/../../etc/passwd", f"{app.folder}/%2e%2e/%2e%2e/etc/passwd"]
    assert {status_of(f"{app.address}gradio_api/file={file}") for file in hidden} <= {403, 404}
