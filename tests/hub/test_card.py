"""The model card: metadata that can be read again, an example that runs, and the author's words left alone."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard, constants
from PIL import Image

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter, miniature
from diffusers_nested.hub import prepare_publication, publish
from diffusers_nested.hub.sections import Section, complete
from hub.steps import ALICE, published

BASE = "alice/base"
EVALUATION = {
    "identities": 100,
    "prompts": ["a", "b"],
    "results": {
        "plain": {"identity": [-0.02, -0.04, 0.0], "place": [1.0, 1.0, 1.0]},
        "scale 1": {"identity": [0.77, 0.75, 0.78]},
    },
}
AUTHORS = """\
---
license: cc-by-4.0
base_model: somebody/finetuned-sdxl
tags:
- portraits
---
# Faces of the valley

Made for a friend.

## Training data

Forty photos of mine.
"""


def card_of(folder, published=None, **keywords) -> ModelCard:
    return prepare_publication(folder, "alice/nested", **{"base_model": BASE, **keywords}).card(published)


def snippet(text: str) -> str:
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def test_the_published_example_runs(hub, tmp_path, monkeypatch):
    """On another machine, with nothing but the names in the card."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    published(hub, miniature.path(), "alice/miniature-sdxl")
    folder = shutil.copytree(miniature.path("people"), tmp_path / "people")
    publish(folder, "alice/people", token=ALICE, base_model="alice/miniature-sdxl")

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
    publish(folder, "alice/nested", token=ALICE, base_model=BASE, license="apache-2.0")
    content = hub.repos["alice/nested"].files()["README.md"].decode()
    metadata = yaml.safe_load(content.split("---\n")[1])
    assert metadata["base_model"] == BASE
    assert metadata["license"] == "apache-2.0"
    assert metadata["pipeline_tag"] == "text-to-image"
    assert {"diffusers-nested", "nested-attention"} <= set(metadata["tags"])
    assert metadata["library_name"] == "diffusers-nested"
    assert metadata["metrics"] == ["identity", "place"]
    data = ModelCard(content).data  # as whoever reads the card reads it
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


def test_sizes_and_pictures(folder):
    for name in ("samples/my cat.png", "front.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        tiny.photo().save(folder / name)
    text = card_of(folder).text
    parameters = sum(p.numel() for p in NestedAdapter.from_pretrained(folder).parameters())
    size = (folder / "diffusion_pytorch_model.safetensors").stat().st_size
    assert f"| {parameters / 1e6:.1f} M |" in text and f"| {size / 1e6:.1f} MB |" in text
    assert "](samples/my%20cat.png)" in text and "](front.jpg)" in text


def test_the_authors_card_is_completed(folder):
    (folder / "README.md").write_text(AUTHORS)
    card = card_of(folder, base_model=None)
    assert card.data.license == "cc-by-4.0" and card.data.base_model == "somebody/finetuned-sdxl"
    assert card.data.tags[0] == "portraits" and "diffusers-nested" in card.data.tags
    assert 'from_pretrained("somebody/finetuned-sdxl")' in snippet(card.text)
    words = AUTHORS.split("---\n")[2]
    assert card.text.strip().startswith(words.strip())
    assert card.text.count("## Training data") == 1 and card.text.count("# Faces of the valley") == 1
    assert card.text.count("## Limits") == 1


def test_a_text_without_metadata_is_kept(folder):
    (folder / "README.md").write_text("# Mine\n\nOnly words.\n")
    card = card_of(folder)
    assert card.data.base_model == BASE
    assert card.text.strip().startswith("# Mine\n\nOnly words.")


def test_what_is_said_now_goes_before_what_the_card_says(folder):
    (folder / "README.md").write_text(AUTHORS)
    card = card_of(folder, base_model=BASE, license="mit")
    assert (card.data.base_model, card.data.license) == (BASE, "mit")


def test_completing_again_changes_nothing_but_what_is_new(folder):
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    first = card_of(folder)
    (folder / "README.md").write_text(first.content)
    assert card_of(folder).content == first.content
    (folder / "README.md").write_text(first.content.replace("## Limits\n", "## Limits\n\nNone that I know.\n"))
    better = {**EVALUATION, "results": {"scale 2": {"identity": [0.9, 0.8, 1.0]}}}
    (folder / "evaluation.json").write_text(json.dumps(better))
    second = card_of(folder)
    assert "None that I know." in second.text and "0.900 [0.800, 1.000]" in second.text
    assert "0.770" not in second.text
    assert [result.metric_value for result in second.data.eval_results] == [0.9]
    (folder / "evaluation.json").unlink()
    last = card_of(folder)
    assert "## Evaluation" not in last.text and not last.data.eval_results


def test_results_of_others_stay(folder):
    """Measured by somebody else on a data set, beside ours."""
    task = {"task": {"type": "text-to-image"}, "dataset": {"type": "faces", "name": "Faces"}}
    theirs = [{"name": "nested", "results": [{**task, "metrics": [{"type": "fid", "value": 12.5}]}]}]
    (folder / "README.md").write_text(
        f"---\n{yaml.safe_dump({'metrics': ['fid'], 'model-index': theirs})}---\n# Mine\n"
    )
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    data = card_of(folder).data
    assert data.metrics == ["fid", "identity", "place"]
    assert [result.metric_type for result in data.eval_results] == ["fid", "identity", "place", "identity"]


def test_the_card_of_the_repository_is_completed_where_the_folder_has_none(hub, folder):
    publish(folder, "alice/nested", token=ALICE, base_model=BASE)
    repo = hub.repos["alice/nested"]
    edited = repo.files()["README.md"].decode().replace("## Limits\n", "## Limits\n\nEdited on its page.\n")
    repo.edit(**{"README.md": edited.encode()})
    publish(folder, "alice/nested", token=ALICE)  # the base model, too, is known from there
    assert repo.files()["README.md"].decode() == edited


def test_an_adapter_of_sdxls_size_is_for_sdxl(folder):
    publication = prepare_publication(folder, "alice/nested")
    layers = {f"block{i}.attn2": 1280 for i in range(70)}
    config = {**publication.facts.config, "layers": layers, "token_dim": 2048}
    card = replace(publication, facts=replace(publication.facts, config=config)).card()
    assert card.data.base_model == "stabilityai/stable-diffusion-xl-base-1.0"


def test_sections():
    ours, theirs = Section("Use", "new", generated=True), Section("Limits", "fill in", generated=False)
    once = complete("# Title\n", [ours, theirs])
    assert complete(once, [ours, theirs]) == once
    assert "newer" in complete(once, [Section("Use", r"newer \1", generated=True), theirs])
    assert complete(once, [Section("Use", "", generated=True)]).count("Use") == 0
    assert complete("# Title\n\n## use\n\nmy own\n", [ours]) == "# Title\n\n## use\n\nmy own\n"
    assert complete("# Title\n\nLimits and uses\n", [theirs]).endswith("## Limits\n\nfill in\n")
