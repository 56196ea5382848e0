"""Publishing over HTTP: everything in one commit, or nothing at all."""

import io
import json
import logging
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image
from safetensors.torch import load_file, save_file

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError, NestedAdapter, NestedAdapterError, PublishError
from diffusers_nested.cli import main
from diffusers_nested.vision import ImageEncoder, load_vision_tower
from hub.server import Fault
from hub.steps import ALICE, BOB, generate

BASE = "alice/base"
WEIGHTS = "diffusion_pytorch_model.safetensors"
ADAPTER = {
    "config.json",
    WEIGHTS,
    "image_encoder/config.json",
    "image_encoder/model.safetensors",
    "feature_extractor/preprocessor_config.json",
}
EVALUATION = {"identities": 3, "prompts": ["a"], "results": {"scale 1": {"identity": [0.75, 0.5, 1.0]}}}


def to_hub(folder: Path, repo_id: str = "alice/nested", **keywords) -> str:
    return NestedAdapter.publish(folder, repo_id, **{"token": ALICE, "base_model": BASE, **keywords})


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


class TestPushToHub:
    def encoder(self, folder: Path) -> ImageEncoder:
        return load_vision_tower(str(folder / "image_encoder"))

    def test_everything_goes_with_the_adapter(self, hub, folder, pipeline, cache, tmp_path):
        made = NestedAdapter.from_pretrained(folder)
        tiny.photo(2).save(tmp_path / "sample.png")
        address = made.push_to_hub(
            "alice/nested",
            token=ALICE,
            private=True,
            image_encoder=self.encoder(folder),
            evaluation=EVALUATION,
            sample_images=[tiny.photo(1), tmp_path / "sample.png"],
            base_model=BASE,
        )
        assert address.startswith(f"{hub.url}/alice/nested/commit/")
        repo = hub.repos["alice/nested"]
        assert repo.private and len(repo.messages) == 2
        assert repo.files().keys() == ADAPTER | {"README.md", "evaluation.json", "samples/01.png", "samples/02.png"}
        pipeline.load_nested_adapter(folder)
        expected = generate(pipeline)
        pipeline.unload_nested_adapter()
        pipeline.load_nested_adapter("alice/nested", token=ALICE, cache_dir=cache)
        assert np.array_equal(generate(pipeline), expected)

    def test_a_loaded_adapter_to_a_branch_as_variant(self, hub, folder, pipeline, cache):
        to_hub(folder)
        pipeline.load_nested_adapter(folder)
        made = pipeline.nested_adapters["person"]
        keywords = {"token": ALICE, "revision": "next", "variant": "fp16", "base_model": BASE}
        made.push_to_hub("alice/nested", image_encoder=folder / "image_encoder", **keywords)
        repo = hub.repos["alice/nested"]
        assert "diffusion_pytorch_model.fp16.safetensors" not in repo.files()
        of_next = repo.files("next").keys()
        assert "diffusion_pytorch_model.fp16.safetensors" in of_next and WEIGHTS not in of_next
        assert 'revision="next", variant="fp16"' in repo.files("next")["README.md"].decode()
        other = tiny.components()["unet"]
        pipeline.unload_nested_adapter()
        pipeline.unet = other
        pipeline.load_nested_adapter("alice/nested", revision="next", variant="fp16", cache_dir=cache)

    def test_pull_request(self, hub, folder):
        to_hub(folder)
        made = NestedAdapter.from_pretrained(folder)
        torch.nn.init.zeros_(made.encoder.queries)
        address = made.push_to_hub(
            "alice/nested", token=BOB, create_pr=True, image_encoder=self.encoder(folder), base_model=BASE
        )
        assert address == f"{hub.url}/alice/nested/discussions/1"
        repo = hub.repos["alice/nested"]
        assert len(repo.messages) == 3
        assert repo.files()[WEIGHTS] == (folder / WEIGHTS).read_bytes()
        assert repo.files("refs/pr/1")[WEIGHTS] != repo.files()[WEIGHTS]

    def test_pickles_are_refused(self, hub, folder):
        with pytest.raises(PublishError, match="safetensors"):
            NestedAdapter.from_pretrained(folder).push_to_hub("alice/nested", safe_serialization=False)
        assert not hub.requests


def nan_weights(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    state["encoder.queries"][0, 0, 0] = torch.nan
    save_file(state, folder / WEIGHTS)


def other_encoder(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    NestedAdapter.from_config({**config, "image_feature_dim": 10}).save_pretrained(folder)


def without_encoder(image_encoder: str | None):
    def change(folder: Path) -> None:
        shutil.rmtree(folder / "image_encoder")
        made = NestedAdapter.from_pretrained(folder)
        made.register_to_config(image_encoder=image_encoder)
        made.save_pretrained(folder)

    return change


def write(name: str, text: str):
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return change


def second_variant(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"half")


NOT_PUBLISHED = {
    "no folder": (shutil.rmtree, {}, "not a folder"),
    "no config": (lambda folder: (folder / "config.json").unlink(), {}, r"config\.json"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), {}, WEIGHTS),
    "not an adapter": (
        lambda folder: UNet2DConditionModel(
            block_out_channels=(8,), norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",)
        ).save_pretrained(folder),
        {},
        "UNet2DConditionModel",
    ),
    "NaN": (nan_weights, {}, "NaN"),
    "a damaged variant": (second_variant, {}, "adapter"),
    "an image encoder of another width": (other_encoder, {}, "24"),
    "an image encoder without weights": (
        lambda folder: (folder / "image_encoder" / "model.safetensors").unlink(),
        {},
        r"image_encoder/model\.safetensors",
    ),
    "no image encoder": (without_encoder(None), {}, "image_encoder/"),
    "an image encoder on this machine": (without_encoder("/data/towers/clip"), {}, "/data/towers/clip"),
    "a picture that is none": (write("samples/a.png", "text"), {}, r"a\.png"),
    "an evaluation that is no JSON": (write("evaluation.json", "{"), {}, r"evaluation\.json"),
    "an evaluation of another form": (write("evaluation.json", '{"identity": 0.7}'), {}, "results"),
    "an evaluation with NaN": (
        write("evaluation.json", '{"results": {"scale 1": {"identity": [NaN, 0, 1]}}}'),
        {},
        "identity",
    ),
    "metadata that cannot be read": (write("README.md", "---\ntags: [a\n---\n# Mine"), {}, r"README\.md"),
    "an unknown base model": (lambda folder: None, {"base_model": None}, "base_model"),
    "a base model on this machine": (lambda folder: None, {"base_model": "./sdxl"}, "base_model"),
    "a name without user": (lambda folder: None, {"repo_id": "nested"}, "user/name"),
    "a name that cannot be": (lambda folder: None, {"repo_id": "a/b/c"}, "user/name"),
}


@pytest.mark.parametrize("name", NOT_PUBLISHED)
def test_not_published(hub, folder, name):
    change, keywords, named = NOT_PUBLISHED[name]
    change(folder)
    with pytest.raises(NestedAdapterError, match=named):
        to_hub(folder, **keywords)
    assert not hub.repos
    assert not [request for request in hub.requests if request.method != "GET"]


@pytest.mark.parametrize("token", [False, "hf_wrong", BOB])
def test_without_the_right_to_write_nothing_changes(hub, folder, token):
    to_hub(folder)
    with pytest.raises(PublishError, match="hf auth login") as caught:
        to_hub(folder, token=token)
    assert isinstance(caught.value.__cause__, HfHubHTTPError)
    with pytest.raises(PublishError):
        to_hub(folder, "alice/new", token=token)
    assert list(hub.repos) == ["alice/nested"] and len(hub.repos["alice/nested"].messages) == 2


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


def test_sample_pictures_are_shown_as_they_are(hub, folder):
    picture = Image.fromarray(np.full((4, 4, 3), 7, np.uint8))
    NestedAdapter.from_pretrained(folder).push_to_hub(
        "alice/nested", token=ALICE, base_model=BASE, image_encoder=folder / "image_encoder", sample_images=[picture]
    )
    (folder / "got.png").write_bytes(hub.repos["alice/nested"].files()["samples/01.png"])
    assert np.array_equal(np.asarray(Image.open(folder / "got.png")), np.asarray(picture))


def pipe(name: str):
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def link(name: str, target: str):
    def change(folder: Path) -> None:
        secret = folder.parent / "secret"
        shutil.copytree(folder, secret)
        (secret / "file").write_text("secret")
        tiny.photo().save(secret / "photo.png")
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.symlink_to(target)

    return change


def evaluated(value: str) -> str:
    return f'{{"results": {{"scale 1": {{"identity": {value}}}}}}}'


REGULAR = (*sorted(ADAPTER), "README.md", "LICENSE", "evaluation.json", "samples/a.png", "front.jpg")
DEEP = "[" * 100_000 + "]" * 100_000
NOT_READ = {
    **{f"a pipe in the place of {name}": (pipe(name), f"{name} is a named pipe") for name in REGULAR},
    **{
        f"a link in the place of {name}": (link(name, target), f"{name} is a link to .*{target.lstrip('./')}")
        for name, target in {
            "LICENSE": "../secret/file",
            "README.md": "../secret/file",
            "evaluation.json": "../secret/file",
            "front.jpg": "../secret/photo.png",
            "config.json": "../secret/config.json",
            WEIGHTS: f"../secret/{WEIGHTS}",
            "image_encoder": "../secret/image_encoder",
            "samples": "../secret",
        }.items()
    },
    "a link to nowhere": (link("LICENSE", "nothing"), "LICENSE is a broken link to nothing"),
    "a link to itself": (link("LICENSE", "LICENSE"), "LICENSE is a broken link to LICENSE"),
    "a card that is no UTF-8": (
        lambda folder: (folder / "README.md").write_bytes(b"# \xff"),
        r"README\.md is not UTF-8",
    ),
    "a card as PowerShell writes it": (
        lambda folder: (folder / "README.md").write_text("# Mine", encoding="utf-16"),
        r"README\.md is not UTF-8",
    ),
    "a base model that is a number": (write("README.md", "---\nbase_model: 5\n---\n"), "base_model must be"),
    "a file of no size": (lambda folder: os.truncate(folder / WEIGHTS, 0), WEIGHTS),
    "a large card": (
        lambda folder: os.truncate(write("README.md", "")(folder) or folder / "README.md", 2**40),
        "bytes",
    ),
    "a name that nobody can read": (lambda folder: (folder / "a\udcff.png").write_bytes(b""), "Rename"),
    "a name that moves the cursor": (lambda folder: tiny.photo().save(folder / "a\x1b[2J.png"), "Rename"),
    **{
        f"{name} nested too deeply": (write(name, DEEP), f"{name} is not JSON")
        for name in ("config.json", "evaluation.json", "image_encoder/config.json")
    },
    **{
        f"a score of {name}": (write("evaluation.json", evaluated(value)), r"evaluation\.json.*identity")
        for name, value in {
            "401 digits": f"[{10**400}, 0, 1]",
            "infinity": "[Infinity, 0, 1]",
            "1e400": "[1e400, 0, 1]",
            "true": "[true, 0, 1]",
            "a text": '["1", 0, 1]',
            "two numbers": "[0, 1]",
            "nothing": "null",
        }.items()
    },
    "a score of 5000 digits": (write("evaluation.json", evaluated(f"[{'9' * 5000}, 0, 1]")), r"evaluation\.json"),
    "a condition without name": (write("evaluation.json", '{"results": {" ": {"a": [0, 0, 0]}}}'), "names"),
    "half a character": (write("evaluation.json", '{"results": {"\\ud800": {"a": [0, 0, 0]}}}'), "names"),
    "identities that are no number": (
        write("evaluation.json", '{"identities": "many", "results": {"a": {"a": [0, 0, 0]}}}'),
        "identities",
    ),
    "prompts that are no list": (
        write("evaluation.json", '{"prompts": 5, "results": {"a": {"a": [0, 0, 0]}}}'),
        "prompts",
    ),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_a_file_that_cannot_be_read_is_named(hub, folder, name):
    change, named = NOT_READ[name]
    change(folder)
    with pytest.raises(PublishError if WEIGHTS not in named else NestedAdapterError, match=named) as caught:
        to_hub(folder)
    assert not hub.requests
    assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()


def test_links_within_the_folder_are_followed(hub, folder):
    for name in ("LICENSE.real", "tower/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("MIT")
    (folder / "LICENSE").symlink_to("LICENSE.real")
    (folder / "image_encoder").rename(folder / "clip")
    (folder / "image_encoder").symlink_to("clip")
    to_hub(folder)
    files = hub.repos["alice/nested"].files()
    assert files.keys() == ADAPTER | {"README.md", "LICENSE"} and files["LICENSE"] == b"MIT"


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


@pytest.mark.parametrize("image", ["nothing.png", "pipe", "folder", "text.png"])
def test_a_sample_image_that_is_none(hub, folder, tmp_path, image):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(PublishError, match=image):
        NestedAdapter.from_pretrained(folder).push_to_hub("alice/nested", sample_images=[tmp_path / image])
    assert not hub.requests


@pytest.mark.parametrize("extra", [{"prompts": [object()]}, {"more": float("nan")}, {1: object()}])
def test_an_evaluation_that_no_file_can_hold(hub, folder, extra):
    with pytest.raises(PublishError, match="evaluation"):
        NestedAdapter.from_pretrained(folder).push_to_hub("alice/nested", evaluation={**EVALUATION, **extra})
    assert not hub.requests


def test_a_card_is_shown_on_any_terminal(folder, monkeypatch):
    """On Windows, it may lack α."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    assert main(["publish", str(folder), "alice/nested", "--dry-run", "--base-model", BASE]) == 0
    assert "α" in written.getvalue().decode()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((3, "alice/nested"), "3 is not a folder"), ((None, None), "repo_id None"), ((".", 3), "3")],
)
def test_values_of_other_types_are_refused(hub, arguments, named):
    with pytest.raises(PublishError, match=named):
        to_hub(*arguments)
    assert not hub.requests


@pytest.mark.parametrize("variant", ["f/p", "", "fp16-1", 16])
def test_what_cannot_be_a_variant_is_refused(hub, folder, variant):
    with pytest.raises(PublishError, match=r"variant is .*'fp16'"):
        NestedAdapter.from_pretrained(folder).push_to_hub("alice/nested", token=ALICE, variant=variant)
    assert not hub.requests
