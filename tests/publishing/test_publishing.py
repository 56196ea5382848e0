"""Publishing over HTTP: everything in one commit, or nothing at all."""

import io
import json
import logging
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError, NestedAdapter, PublishError
from diffusers_nested.cli import main
from hub.asked import Fault
from hub.steps import ALICE, BASE, WEIGHTS, generate, to_hub
from published_files import ADAPTER, EVALUATION


def trained_folder(folder: Path) -> Path:
    """The output of a training run, with pictures and an evaluation."""
    (folder / "checkpoint-4" / "adapter").mkdir(parents=True)
    shutil.copy(folder / WEIGHTS, folder / "checkpoint-4" / "adapter" / WEIGHTS)
    for name in ("checkpoint-4/state.pt", "optimizer.bin", "model.ckpt", "log.jsonl", "training_config.json", ".env"):
        (folder / name).write_text("{}")
    for name in ("samples/one.png", "front.jpg", "validation/step-4.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        tiny.photo().save(folder / name)
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    return folder


def test_published_and_loaded_by_name_on_another_machine(hub, folder, pipeline, cache):
    address = to_hub(folder)
    assert address.startswith(f"{hub.url}/alice/nested/commit/")
    pipeline.load_nested_adapter(folder)
    expected = generate(pipeline)
    pipeline.unload_nested_adapter()
    shutil.rmtree(folder)
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    assert np.array_equal(generate(pipeline), expected)


def test_one_commit_with_what_belongs_to_an_adapter(hub, folder):
    trained_folder(folder)
    to_hub(folder, commit_message="First people")
    repo = hub.repos["alice/nested"]
    assert repo.messages == ["initial commit", "First people"]
    files = repo.files()
    assert files.keys() == ADAPTER | {"README.md", "evaluation.json", "samples/one.png", "front.jpg"}
    for name in files.keys() - {"README.md"}:
        assert files[name] == (folder / name).read_bytes()


def test_paths_of_this_machine_stay_here(hub, folder):
    made = NestedAdapter.from_pretrained(folder)  # the config now contains the folder's path
    made.register_to_config(image_encoder=str(folder / "image_encoder"))
    made.save_pretrained(folder)
    assert str(folder) in (folder / "config.json").read_text()
    to_hub(folder)
    uploaded = hub.repos["alice/nested"].files()
    assert not [name for name, content in uploaded.items() if str(folder).encode() in content]
    assert json.loads(uploaded["config.json"])["image_encoder"] is None
    assert str(folder) in (folder / "config.json").read_text()  # the folder itself is unchanged


def test_dry_run_asks_nothing_and_changes_nothing(hub, folder, capsys, caplog):
    trained_folder(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with caplog.at_level(logging.INFO, "diffusers_nested"):
        assert main(["publish", str(folder), "alice/nested", "--dry-run", "--base-model", BASE]) == 0
    assert not hub.requests
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    for name in ("README.md", WEIGHTS, "checkpoint-4/ (2 files)", "optimizer.bin", "log.jsonl"):
        assert name in caplog.text
    size = f"{(folder / WEIGHTS).stat().st_size / 1e6:.3f} MB  {WEIGHTS}"
    assert size in caplog.text
    written = folder.parent / "card.md"
    written.write_text(capsys.readouterr().out)
    shutil.copy(written, folder / "README.md")  # round trip: the card that was shown is published as it is
    to_hub(folder)
    assert hub.repos["alice/nested"].files()["README.md"].decode() == written.read_text()


def test_command(hub, folder):
    arguments = [str(folder), "alice/nested", "--token", ALICE, "--base-model", BASE, "--private", "--license", "mit"]
    assert main(["publish", *arguments, "--commit-message", "Mine", "--subfolder", "people"]) == 0
    repo = hub.repos["alice/nested"]
    assert repo.private and repo.messages[-1] == "Mine"
    assert {f"people/{name}" for name in ADAPTER} < repo.files().keys()
    assert main(["publish", str(folder), "bob/nested", "--token", ALICE, "--base-model", BASE]) == 2


@pytest.mark.parametrize("fault", [Fault("PUT", "/lfs/", 400), Fault("POST", "/commit/", 400)])
def test_an_interrupted_publish_is_run_again(hub, folder, pipeline, cache, fault):
    hub.faults.append(fault)
    with pytest.raises(PublishError, match="again"):
        to_hub(folder)
    repo = hub.repos["alice/nested"]
    assert repo.files() == {}  # nothing half-published
    with pytest.raises(AdapterLoadError):
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache)

    arrived = set(hub.blobs)
    hub.requests.clear()
    to_hub(folder)
    assert repo.messages == ["initial commit", "Upload nested adapter"]
    sent = {request.path.removeprefix("/lfs/") for request in hub.requests if request.method == "PUT"}
    assert arrived and not sent & arrived  # files that arrived are not sent again
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)


def test_a_connection_that_breaks_is_taken_up_again(hub, folder):
    hub.faults.append(Fault("PUT", "/lfs/"))
    to_hub(folder)
    assert hub.repos["alice/nested"].files().keys() == ADAPTER | {"README.md"}


def test_publishing_the_same_again_makes_no_commit(hub, folder):
    to_hub(folder)
    to_hub(folder)
    assert len(hub.repos["alice/nested"].messages) == 2


def test_shards_of_before_do_not_stay(hub, folder, pipeline, cache):
    made = NestedAdapter.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    made.save_pretrained(folder, max_shard_size="20KB")
    to_hub(folder)
    assert f"{WEIGHTS}.index.json" in hub.repos["alice/nested"].files()
    for path in folder.glob("diffusion*"):
        path.unlink()
    torch.nn.init.zeros_(made.encoder.queries)
    made.save_pretrained(folder)
    to_hub(folder)
    assert hub.repos["alice/nested"].files().keys() == ADAPTER | {"README.md"}
    pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    assert not pipeline.nested_adapters["person"].encoder.queries.any()


def test_pictures_go_without_their_metadata(hub, folder, caplog):
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 30.0)
    (folder / "samples").mkdir()
    for name in ("samples/Photo.JPG", "front.png"):
        tiny.photo().save(folder / name, exif=exif.tobytes())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with caplog.at_level(logging.INFO, "diffusers_nested"):
        to_hub(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    files = hub.repos["alice/nested"].files()
    for name in ("samples/Photo.JPG", "front.png"):
        with Image.open(io.BytesIO(files[name])) as got, Image.open(folder / name) as own:
            assert own.getexif() and not got.getexif() and np.array_equal(got, own)
        assert f"{name}  (without its metadata)" in caplog.text


def test_a_card_is_shown_on_any_terminal(folder, monkeypatch):
    """On Windows, it may lack α."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    assert main(["publish", str(folder), "alice/nested", "--dry-run", "--base-model", BASE]) == 0
    assert "α" in written.getvalue().decode()
