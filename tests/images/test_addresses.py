"""Paths and URLs instead of images: opened with the same checks as files."""

import io
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from PIL import Image

from diffusers_nested import Subject, SubjectError
from diffusers_nested.images import addresses
from pngs import png
from subject_cases import ONE, only, resolve
from tiny_pipeline import photo


def encoded(image: Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def upside_down() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3
    return encoded(photo(3), exif=exif)


side = int((3 * (Image.MAX_IMAGE_PIXELS or 0)) ** 0.5)
# path -> (status, content)
PAGES = {
    "/me.png": (200, encoded(photo(1))),
    "/me": (200, encoded(photo(1).resize((24, 24)), "jpeg")),
    "/turned.png": (200, upside_down()),
    "/page.png": (200, b"<html>no picture</html>"),
    "/cut.png": (200, encoded(photo(1))[:200]),
    "/empty.png": (200, b""),
    "/bomb.png": (200, png(side, side)),
    "/ribbon.png": (200, encoded(Image.new("L", (1, 3000)))),
    "/gone.png": (404, encoded(photo(1))),
    "/broken.png": (500, b""),
}


OVER = Event()  # set when requests that hang may end


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/hangs.png":
            OVER.wait()
            return
        if self.path == "/moved.png":
            self.send_response(302)
            self.send_header("Location", "/me.png")
            self.end_headers()
            return
        status, content = PAGES[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    OVER.set()
    server.shutdown()
    server.server_close()


def image_at(address) -> Image.Image:
    [image] = only(address).images
    assert isinstance(image, Image.Image)
    return image


@pytest.mark.parametrize("kind", [str, Path])
def test_paths(tmp_path: Path, kind):
    photo(1).save(tmp_path / "me.png")
    assert np.array_equal(np.asarray(image_at(kind(tmp_path / "me.png"))), np.asarray(photo(1)))


def test_paths_in_every_form(tmp_path: Path):
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for i, path in enumerate(paths):
        photo(i).save(path)
    one, two = paths
    forms = [paths, {"person": paths}, Subject(paths), [Subject([one, str(two)])], [{"person": [str(one), two]}]]
    for form in forms:
        [[subject]] = resolve(form, adapters=ONE)
        for seed, image in enumerate(subject.images):
            assert np.array_equal(np.asarray(image), np.asarray(photo(seed)))


def test_masks(tmp_path: Path, site: str):
    Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).save(tmp_path / "mask.png")
    mask = only(Subject(photo(), mask=tmp_path / "mask.png")).mask
    assert mask is not None and mask.tolist() == [[0, 1], [1, 0]]
    assert only(Subject(photo(), mask=f"{site}/me.png")).mask is not None


@pytest.mark.parametrize("page", ["/me.png", "/moved.png"])
def test_addresses(site: str, page: str):
    assert np.array_equal(np.asarray(image_at(site + page)), np.asarray(photo(1)))


def test_addresses_without_an_ending_and_in_capitals(site: str):
    assert image_at(site.replace("http", "HTTP") + "/me").size == (24, 24)


def test_pictures_from_the_net_are_upright(site: str):
    assert np.array_equal(np.asarray(image_at(f"{site}/turned.png")), np.asarray(photo(3))[::-1, ::-1])


@pytest.mark.parametrize("page", ["/page.png", "/cut.png", "/empty.png", "/bomb.png", "/ribbon.png"])
def test_what_is_no_picture_to_use_is_refused(site: str, page: str, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(PAGES[page][1])
    for address in (site + page, tmp_path / "a.png"):
        with pytest.raises(SubjectError) as error:
            only(address)
        assert repr(str(address)) in str(error.value)


@pytest.mark.parametrize("page", ["/gone.png", "/broken.png"])
def test_what_the_server_does_not_give_is_refused(site: str, page: str):
    with pytest.raises(SubjectError, match=rf"{page}.*{PAGES[page][0]}"):
        only(site + page)


@pytest.mark.parametrize("address", ["http://", "http://127.0.0.1:1/me.png", "https://[", f"http://{'a' * 300}/"])
def test_addresses_that_lead_nowhere_are_refused(address: str):
    with pytest.raises(SubjectError, match="Check the URL"):
        only(address)


def test_a_server_that_says_nothing_is_not_waited_for(site: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("diffusers.utils.constants.DIFFUSERS_REQUEST_TIMEOUT", 0.1)
    with pytest.raises(SubjectError, match="hangs"):
        only(f"{site}/hangs.png")


def test_a_file_without_end_is_not_taken(site: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(addresses, "MAX_DOWNLOAD", 100)
    with pytest.raises(SubjectError, match="more than 100 bytes"):
        only(f"{site}/me.png")


@pytest.mark.parametrize(
    "text", ["a photo of a king", "a photo. Of a king", "king " * 1000], ids=lambda text: text[:20]
)
def test_a_sentence_is_told_from_a_path(text: str):
    with pytest.raises(SubjectError, match=r"If it is a prompt.*nested_adapter_token") as error:
        resolve({"person": text}, adapters=ONE)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "path", ["me.png", "no such folder/me.jpg", "", "king", "ftp://a/b.png", "me\0.png", "a" * 5000]
)
def test_a_missing_file(path: str):
    with pytest.raises(SubjectError, match="There is no image file"):
        only(path)


def test_a_folder(tmp_path: Path):
    with pytest.raises(SubjectError, match="folder"):
        only(tmp_path)
