"""Publishing again: outdated files are removed, and other people's files are kept."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter, PublishError
from hub.repository import Repo
from hub.steps import BOB, WEIGHTS, published, to_hub

HALF = "diffusion_pytorch_model.fp16.safetensors"
TOWER = {
    "image_encoder/config.json",
    "image_encoder/model.safetensors",
    "feature_extractor/preprocessor_config.json",
}
ADAPTER = {"README.md", "config.json", WEIGHTS} | TOWER
EVALUATION = {"identities": 3, "results": {"scale 1": {"identity": [0.75, 0.5, 1.0]}}}
THEIRS = {
    "notes.txt": b"mine",
    "image_encoder/notes.txt": b"mine",
    "samples/film.gif": b"GIF89a",
    "diffusion_pytorch_model.bin": b"old",
    "diffusion_pytorch_model.txt": b"mine",
    "other/config.json": b"{}",
    "other/image_encoder/config.json": b"{}",
    "LICENSE": b"mine",
    "banner.png": b"shown by nobody",
}


def name_a_tower(folder: Path, name: str | None = "alice/towers/clip") -> None:
    for part in ("image_encoder", "feature_extractor"):
        shutil.rmtree(folder / part)
    made = NestedAdapter.from_pretrained(folder)
    made.register_to_config(image_encoder=name)
    made.save_pretrained(folder)


def add_everything(folder: Path) -> None:
    NestedAdapter.from_pretrained(folder).save_pretrained(folder, variant="fp16")
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    (folder / "samples").mkdir()
    for name in ("samples/my one.png", "front.jpg"):
        tiny.photo().save(folder / name)


@pytest.mark.parametrize("subfolder", [None, "people"])
def test_what_the_new_adapter_lacks_goes_in_the_same_commit(hub, folder, subfolder, caplog):
    prefix = f"{subfolder}/" if subfolder else ""
    simple = shutil.copytree(folder, folder.parent / "simple")
    add_everything(folder)
    to_hub(folder, subfolder=subfolder)
    repo = hub.repos["alice/nested"]
    whole = ADAPTER | {HALF, "evaluation.json", "samples/my one.png", "front.jpg"}
    assert repo.files().keys() == {prefix + name for name in whole}
    repo.edit(**{prefix + name: content for name, content in THEIRS.items()}, **{"top.txt": b"mine"})
    name_a_tower(simple)
    with caplog.at_level(logging.INFO, "diffusers_nested"):
        to_hub(simple, subfolder=subfolder)
    assert len(repo.messages) == 4  # created, published, edited, published again
    files = repo.files()
    kept = {prefix + name for name in (ADAPTER - TOWER) | THEIRS.keys()}
    assert files.keys() == kept | {"top.txt"}
    assert all(files[prefix + name] == content for name, content in THEIRS.items())
    for name in whole - (ADAPTER - TOWER):
        assert f"removed from the repository: {prefix}{name}" in caplog.text
    card = ModelCard(files[f"{prefix}README.md"].decode())
    assert "Evaluation" not in card.text and "0.750" not in card.content and "Samples" not in card.text
    assert not card.data.eval_results and not card.data.metrics
    assert "alice/towers/clip" in card.text


def test_a_picture_that_the_authors_text_shows_stays(hub, folder):
    add_everything(folder)
    to_hub(folder)
    repo = hub.repos["alice/nested"]
    card = repo.files()["README.md"] + b"\n## Mine\n\n![one](front.jpg)\n"
    repo.edit(**{"README.md": card})
    (folder / "front.jpg").unlink()
    shutil.rmtree(folder / "samples")
    to_hub(folder)
    assert "front.jpg" in repo.files() and "samples/my one.png" not in repo.files()


def test_a_variant_alone_does_not_leave_older_weights(hub, folder):
    add_everything(folder)
    to_hub(folder)
    (folder / WEIGHTS).unlink()
    to_hub(folder)
    files = hub.repos["alice/nested"].files()
    assert HALF in files and WEIGHTS not in files
    assert 'variant="fp16"' in files["README.md"].decode()


def test_weights_that_loading_does_not_read_stay_at_home(hub, folder, caplog):
    made = NestedAdapter.from_pretrained(folder)
    shards = folder.parent / "shards"
    made.save_pretrained(shards, max_shard_size="20KB")
    for path in shards.glob("diffusion*"):
        shutil.copy(path, folder)
    shutil.copy(folder / "image_encoder/model.safetensors", folder / "image_encoder/model-00001-of-00002.safetensors")
    with caplog.at_level(logging.INFO, "diffusers_nested"):
        to_hub(folder)
    assert hub.repos["alice/nested"].files().keys() == ADAPTER
    for name in (f"{WEIGHTS}.index.json", "image_encoder/model-00001-of-00002.safetensors"):
        assert f"left out: {name}" in caplog.text


def test_shards_of_another_name_are_refused(hub, folder):
    (folder / WEIGHTS).rename(folder / "part.safetensors")
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"a": "part.safetensors"}}))
    with pytest.raises(PublishError, match=r"part\.safetensors"):
        to_hub(folder)
    assert not hub.repos


def written(hub, changes: dict[str, bytes]) -> Repo:
    repo = hub.repos.setdefault("alice/nested", Repo())
    repo.edit(**changes)
    return repo


OTHER_MODELS = {
    "a pipeline": {"model_index.json": b"{}", "image_encoder/config.json": b"{}"},
    "a UNet": {"config.json": b'{"_class_name": "UNet2DConditionModel"}', WEIGHTS: b"weights"},
    "a config that is none": {"config.json": b"\xff[", WEIGHTS: b"weights"},
    "weights alone": {WEIGHTS: b"weights"},
}


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_another_model_is_not_replaced(hub, folder, name):
    repo = written(hub, OTHER_MODELS[name])
    before = repo.files()
    with pytest.raises(PublishError, match="subfolder"):
        to_hub(folder)
    assert repo.files() == before
    to_hub(folder, subfolder="people")
    assert repo.files() == before | {path: repo.files()[path] for path in (f"people/{name}" for name in ADAPTER)}


def test_a_repository_with_only_a_page_is_filled(hub, folder):
    repo = written(hub, {"README.md": b"# Mine\n\nWords.\n", ".gitattributes": b"*"})
    to_hub(folder)
    assert b"# Mine\n\nWords.\n" in repo.files()["README.md"]


def test_an_image_encoder_that_another_adapter_reads_is_not_removed(hub, folder):
    to_hub(folder)
    repo = hub.repos["alice/nested"]
    repo.edit(**{"pets/config.json": b'{"_class_name": "NestedAdapter", "image_encoder": null}'})
    before = repo.files()
    name_a_tower(folder)
    with pytest.raises(PublishError, match="pets/"):
        to_hub(folder)
    assert repo.files() == before
    repo.edit(**{"pets/image_encoder/config.json": b"{}"})
    to_hub(folder)
    assert not TOWER & repo.files().keys()


class TestSomebodyElse:
    """Somebody else commits at the same time."""

    def before(self, hub, method: str, path: str, act) -> None:
        """Do something just before the next such request is answered."""
        take = hub.take_fault

        def take_fault(asked: str, at: str):
            if (asked, path in at) == (method, True):
                del hub.take_fault
                act()
            return take(asked, at)

        hub.take_fault = take_fault

    def test_a_commit_in_between_is_not_overwritten(self, hub, folder):
        to_hub(folder)
        repo = hub.repos["alice/nested"]
        add_everything(folder)
        self.before(hub, "POST", "/commit/", lambda: repo.edit(**{"config.json": b"of somebody else"}))
        with pytest.raises(PublishError, match="try again"):
            to_hub(folder)
        assert repo.files()["config.json"] == b"of somebody else" and HALF not in repo.files()

    def test_two_new_ones_at_once(self, hub, folder):
        other = shutil.copytree(folder, folder.parent / "other")
        add_everything(other)
        self.before(hub, "POST", "/api/repos/create", lambda: to_hub(other))
        with pytest.raises(PublishError, match="try again"):
            to_hub(folder)
        assert HALF in hub.repos["alice/nested"].files()

    def test_a_new_branch_at_once(self, hub, folder):
        to_hub(folder)
        other = shutil.copytree(folder, folder.parent / "other")
        add_everything(other)
        self.before(hub, "POST", "/branch/", lambda: to_hub(other, revision="next"))
        (folder / "LICENSE").write_text("MIT")
        with pytest.raises(PublishError, match="try again"):
            to_hub(folder, revision="next")
        assert "LICENSE" not in hub.repos["alice/nested"].files("next")

    def test_a_request_of_somebody_is_for_what_they_saw(self, hub, folder):
        to_hub(folder)
        add_everything(folder)
        to_hub(folder, token=BOB, create_pr=True)
        assert HALF in hub.repos["alice/nested"].files("refs/pr/1")


def test_a_branch_of_a_new_repository(hub, folder):
    to_hub(folder, revision="next")
    repo = hub.repos["alice/nested"]
    assert repo.files() == {} and repo.files("next").keys() == ADAPTER


REFUSED = {
    "a tag": ({"revision": "v1"}, "v1"),
    "a commit": ({"revision": "0" * 40}, "branch"),
    "no branch": ({"revision": "a b"}, "a b"),
    "a branch with a newline": ({"revision": "a\nb"}, "branch"),
    "public though it should be private": ({"private": True}, "public"),
    "a folder outside": ({"subfolder": "../other"}, r"\.\./other"),
    "an absolute folder": ({"subfolder": "/people"}, "/people"),
    "an empty folder": ({"subfolder": ""}, "subfolder"),
    "a folder of git": ({"subfolder": "a/.git/b"}, "git"),
    "the folder of the image encoder": ({"subfolder": "image_encoder"}, "image encoder"),
    "a folder with a newline": ({"subfolder": "a\nb"}, "subfolder"),
    "an empty license": ({"license": " "}, "license"),
    "half a character": ({"license": "\udcff"}, "license"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_is_changed(hub, folder, name):
    repo = published(hub, folder) and hub.repos["alice/nested"]
    repo.tags["v1"] = repo.branches["main"]
    keywords, named = REFUSED[name]
    with pytest.raises(PublishError, match=named):
        to_hub(folder, **keywords)
    assert len(repo.messages) == 2 and list(repo.branches) == ["main"]
    assert not [request for request in hub.requests if request.method not in ("GET", "HEAD")]
