"""Answers of the Hub and their messages; names that are refused without a request; damaged downloads."""

import re
from itertools import product
from pathlib import Path

import pytest
from huggingface_hub.errors import HTTPError

from diffusers_nested import AdapterLoadError, NestedAdapter
from diffusers_nested.adapter import inspect_adapter
from diffusers_nested.cli import main
from diffusers_nested.files.source import Source
from hub.asked import Fault
from hub.steps import check_untouched, published

WEIGHTS = "diffusion_pytorch_model.safetensors"
# The message for each status, and for no answer at all; each message matches only its own.
SAID = {
    403: "token that may read",
    404: "Check the name",
    418: "Try again later",
    429: "too many requests: wait",
    500: "out of order, not your connection",
    503: "out of order, not your connection",
    None: "cannot be reached|Check the connection",
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Skip the pauses between the client's attempts."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


@pytest.mark.parametrize("status", SAID)
@pytest.mark.parametrize("force_download", [False, True])
def test_answers_are_told_apart(hub, folder, pipeline, cache, status, force_download):
    published(hub, folder)
    processors = pipeline.unet.attn_processors
    hub.faults += [Fault("HEAD", "config.json", status=status) for _ in range(20)]
    with pytest.raises(AdapterLoadError, match=SAID[status]) as caught:
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache, force_download=force_download)
    message = str(caught.value)
    assert "alice/nested" in message and (status is None or str(status) in message)
    assert {said for said in SAID.values() if re.search(said, message)} == {SAID[status]}
    cause = caught.value.__cause__
    assert isinstance(cause, HTTPError) or isinstance(cause.__cause__, HTTPError)
    check_untouched(pipeline, processors)


@pytest.mark.parametrize("status", [429, 503])
def test_what_is_here_is_read_whatever_the_hub_answers(hub, folder, pipeline, cache, status):
    published(hub, folder)
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    pipeline.unload_nested_adapter()
    hub.faults += [Fault("HEAD", "/", status=status) for _ in range(99)]
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    assert list(pipeline.nested_adapters) == ["person"]


PATHS = [
    "nofolder",
    "./no/folder",
    "no/such/folder",
    "/no/folder",
    "~/folder",
    "no\\folder",
    "runs/person/",
    "",
    "user/",
]


@pytest.mark.parametrize("name", [*PATHS, "user/" + "x" * 97, "x" * 5000, "user/a--b", "user/\x00", "user/\x1b[2J"])
def test_what_can_be_no_repository_is_said_at_once(hub, pipeline, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for read in (
        pipeline.load_nested_adapter,
        NestedAdapter.from_pretrained,
        lambda given: inspect_adapter(Source(given)),
    ):
        with pytest.raises(AdapterLoadError, match="no folder") as caught:
            read(name)
        assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()
    assert main(["inspect", name]) == 2
    assert "no folder" in capsys.readouterr().err
    assert not hub.requests


def test_a_file_is_said_at_once(hub, folder, pipeline, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)
    name = f"{folder.name}/{WEIGHTS}"  # looks like a repository id
    for read in (pipeline.load_nested_adapter, NestedAdapter.from_pretrained):
        with pytest.raises(AdapterLoadError, match=f"is a file.*weight_name='{WEIGHTS}'"):
            read(name)
    assert main(["inspect", name]) == 2
    assert "is a file" in capsys.readouterr().err
    assert not hub.requests


SAME = {"people": ["people", "people/", "./people", "people//", "other/../people", "././people/."]}
SAME["people/v1"] = ["people/v1", "people//v1/", "./people/./v1"]


@pytest.mark.parametrize(("plain", "name"), [(plain, name) for plain, names in SAME.items() for name in names])
def test_a_subfolder_may_be_written_in_many_ways(hub, folder, pipeline, cache, tmp_path, plain, name):
    top = tmp_path / "repository"
    folder.rename((top / plain).parent.mkdir(parents=True, exist_ok=True) or top / plain)
    published(hub, top)
    for location in ("alice/nested", top):
        pipeline.load_nested_adapter(location, subfolder=name, cache_dir=cache)
        pipeline.unload_nested_adapter()
        NestedAdapter.from_pretrained(location, subfolder=name, cache_dir=cache)
        inspect_adapter(Source(str(location), name, cache_dir=str(cache)))


@pytest.mark.parametrize("name", [".", "", "./", "people/.."])
def test_the_top_as_a_subfolder(hub, folder, pipeline, cache, name):
    published(hub, folder)
    for location in ("alice/nested", folder):
        pipeline.load_nested_adapter(location, subfolder=name, cache_dir=cache)
        pipeline.unload_nested_adapter()
        NestedAdapter.from_pretrained(location, subfolder=name, cache_dir=cache)


def test_a_subfolder_as_a_path(hub, folder, pipeline):
    pipeline.load_nested_adapter(folder.parent, subfolder=Path(folder.name))
    assert list(pipeline.nested_adapters) == ["person"]


@pytest.mark.parametrize("name", ["..", "../adapter", "people/../../adapter", "/etc", "a\0b", 3])
def test_a_subfolder_that_leaves_the_folder(hub, folder, pipeline, cache, name):
    published(hub, folder)
    for location in ("alice/nested", folder):
        for keyword in ("subfolder", "image_encoder_folder"):
            with pytest.raises(AdapterLoadError, match=f"{keyword} is"):
                pipeline.load_nested_adapter(location, cache_dir=cache, **{keyword: name})
        with pytest.raises(AdapterLoadError, match="subfolder is"):
            NestedAdapter.from_pretrained(location, subfolder=name, cache_dir=cache)


LONG = "x" * 5000
NAMES = ("subfolder", "weight_name", "variant", "image_encoder_folder")


@pytest.mark.parametrize(("where", "keyword"), [*product(("folder", "hub"), NAMES), ("hub", "revision")])
def test_names_that_are_too_long(hub, folder, pipeline, cache, where, keyword):
    published(hub, folder)
    location = "alice/nested" if where == "hub" else folder
    for name in (LONG, 3) if keyword == "weight_name" else (LONG,):
        with pytest.raises(AdapterLoadError):
            pipeline.load_nested_adapter(location, cache_dir=cache, **{keyword: name})
    assert not pipeline.nested_adapters


def flip(path: Path, at: int = -1) -> None:
    """Damage the cached file behind a link without changing its size."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.resolve().write_bytes(bytes(data))


DAMAGE = {
    "config.json": 0,
    WEIGHTS: 9,
    "image_encoder/config.json": 0,
    "image_encoder/model.safetensors": 9,
    "feature_extractor/preprocessor_config.json": 0,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_download_names_the_remedy(hub, folder, pipeline, cache, name):
    published(hub, folder)
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    pipeline.unload_nested_adapter()
    (downloaded,) = cache.glob(f"models--alice--nested/snapshots/*/{name}")
    flip(downloaded, DAMAGE[name])
    with pytest.raises(AdapterLoadError, match=f"{Path(name).name} is damaged.*force_download=True"):
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache, force_download=True)
    assert list(pipeline.nested_adapters) == ["person"]


def test_what_is_damaged_on_the_hub_is_not_worth_another_download(hub, folder, pipeline, cache):
    flip(folder / WEIGHTS, 9)
    published(hub, folder)
    for location in ("alice/nested", folder):
        with pytest.raises(AdapterLoadError) as caught:
            pipeline.load_nested_adapter(location, cache_dir=cache)
        assert "force_download" not in str(caught.value)


@pytest.mark.parametrize("header", [b"[]", b"3", b'{"a": []}', b'{"a": {"dtype": "F32"}}', b"[" * 50_000, b"oops"])
def test_inspection_of_a_damaged_header(hub, folder, cache, header):
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    published(hub, folder)
    for location in ("alice/nested", str(folder)):
        with pytest.raises(AdapterLoadError, match=WEIGHTS) as caught:
            inspect_adapter(Source(location, cache_dir=str(cache)))
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("keywords", [{"revision": 3}, {"revision": ""}, {"cache_dir": 3}], ids=str)
def test_values_of_other_types_are_refused(hub, pipeline, keywords):
    with pytest.raises(AdapterLoadError, match=f"{next(iter(keywords))} must be"):
        pipeline.load_nested_adapter("alice/nested", **keywords)
    assert not hub.requests
