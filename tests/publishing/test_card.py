"""The model card: valid metadata, and an example that runs."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard, constants
from PIL import Image

import tiny_pipeline as tiny
from cards import EVALUATION, LOAD, card_of, snippet
from diffusers_nested import NestedAdapter, PublishError, miniature
from diffusers_nested.publishing import prepare_publication
from diffusers_nested.publishing.card import write_card
from hub.steps import ALICE, BASE, published


def test_the_published_example_runs(hub, tmp_path, monkeypatch):
    """Run the example as on another machine, with only the names in the card."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    published(hub, miniature.path(), "alice/miniature-sdxl")
    folder = shutil.copytree(miniature.path("people"), tmp_path / "people")
    NestedAdapter.publish(folder, "alice/people", token=ALICE, base_model="alice/miniature-sdxl")

    code = snippet(hub.repos["alice/people"].files()["README.md"].decode())
    miniature.example("mira").save("photo.png")
    few = re.sub(r"(nested_adapter_image=photo)", r"\1, num_inference_steps=2", code)
    assert few != code
    exec(compile(few, "README.md", "exec"), {"__name__": "__main__"})
    with Image.open("result.png") as picture:
        assert picture.size == (32, 32)
    assert {path.split("/resolve/")[0] for path in hub.downloads()} == {"/alice/people", "/alice/miniature-sdxl"}


def test_metadata(hub, folder):
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    NestedAdapter.publish(folder, "alice/nested", token=ALICE, base_model=BASE, license="apache-2.0")
    content = hub.repos["alice/nested"].files()["README.md"].decode()
    metadata = yaml.safe_load(content.split("---\n")[1])
    assert metadata["base_model"] == BASE
    assert metadata["license"] == "apache-2.0"
    assert metadata["pipeline_tag"] == "text-to-image"
    assert {"diffusers-nested", "nested-attention"} <= set(metadata["tags"])
    assert metadata["library_name"] == "diffusers-nested"
    assert metadata["metrics"] == ["identity", "place"]
    data = ModelCard(content).data  # as readers of the card parse it
    got = {result.metric_name: (result.metric_value, result.metric_args) for result in data.eval_results}
    assert got == {
        f"{metric} ({condition})": (mean, {"low": low, "high": high})
        for condition, row in EVALUATION["results"].items()
        for metric, (mean, low, high) in row.items()
    }


def test_evaluation_table(folder):
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    rows = [line.strip("|").split("|") for line in card_of(folder).text.splitlines() if re.search(r"\| .*\[", line)]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert cells == [
        ["identity", "-0.020 [-0.040, 0.000]", "0.770 [0.750, 0.780]"],
        ["place", "1.000 [1.000, 1.000]", ""],
    ]


@pytest.mark.parametrize(
    ("keywords", "loading"),
    [
        ({}, '("alice/nested")'),
        ({"subfolder": "people"}, '("alice/nested", subfolder="people")'),
        ({"revision": "v2"}, '("alice/nested", revision="v2")'),
    ],
)
def test_the_example_names_what_is_needed_to_load(folder, keywords, loading):
    assert f"load_nested_adapter{loading}" in snippet(card_of(folder, **keywords).text)


def test_photos_are_cropped_as_in_training(folder):
    config = json.loads((folder / "config.json").read_text())
    assert "prepare_face" not in card_of(folder).text
    (folder / "config.json").write_text(json.dumps({**config, "image_preparation": "aligned_face"}))
    text = card_of(folder).text
    assert "photo = diffusers_nested.prepare_face(" in snippet(text)
    assert "| Photos | aligned faces |" in text


def test_sizes_and_pictures(folder):
    for name in ("samples/my cat.png", "front.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        tiny.photo().save(folder / name)
    text = card_of(folder).text
    parameters = sum(p.numel() for p in NestedAdapter.from_pretrained(folder).parameters())
    size = (folder / "diffusion_pytorch_model.safetensors").stat().st_size
    assert f"| {parameters / 1e6:.1f} M |" in text and f"| {size / 1e6:.1f} MB |" in text
    assert "](samples/my%20cat.png)" in text and "](front.jpg)" in text


def test_an_adapter_of_sdxls_size_is_for_sdxl(folder):
    publication = prepare_publication(folder, "alice/nested", load=LOAD)
    layers = {f"block{i}.attn2": 1280 for i in range(70)}
    config = {**publication.facts.config, "layers": layers, "token_dim": 2048}
    card = replace(publication, facts=replace(publication.facts, config=config)).card()
    assert card.data.base_model == "stabilityai/stable-diffusion-xl-base-1.0"


@pytest.mark.parametrize(
    ("token_dim", "title", "base_model"),
    [
        (768, "Stable Diffusion 1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        (1024, "Stable Diffusion 2.1", None),
    ],
)
def test_an_adapter_of_stable_diffusion_says_so(folder, token_dim, title, base_model):
    publication = prepare_publication(folder, "alice/nested", load=LOAD)
    layers = {f"block{i}.attn2": 1280 for i in range(16)}
    config = {**publication.facts.config, "base_family": "sd15", "layers": layers, "token_dim": token_dim}
    facts = replace(publication.facts, config=config)
    if base_model is None:
        with pytest.raises(PublishError, match="--base-model"):
            write_card(facts)
    card = write_card(replace(facts, base_model=base_model or BASE))
    assert card.data.base_model == (base_model or BASE)
    assert f"adapter for {title} pipelines of diffusers" in card.text
    assert "StableDiffusionPipeline.from_pretrained(" in snippet(card.text)
    # a card of the adapter that stood here before says what it is for now
    older = write_card(replace(publication.facts, base_model=BASE)).content.encode()
    assert "for SDXL pipelines" in older.decode()
    again = write_card(replace(facts, base_model=BASE), published=older).text
    assert f"for {title} pipelines" in again and "SDXL" not in again


def test_an_unknown_family_is_refused(folder):
    facts = prepare_publication(folder, "alice/nested", load=LOAD, base_model=BASE).facts
    with pytest.raises(PublishError, match="base_family is 'sd9', expected 'sdxl' or 'sd15'"):
        write_card(replace(facts, config={**facts.config, "base_family": "sd9"}))
