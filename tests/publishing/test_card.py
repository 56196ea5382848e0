"""The model card: valid metadata, an example that runs, and the author's text left alone."""

import ast
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import yaml
from huggingface_hub import ModelCard, constants
from PIL import Image

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter, PublishError, miniature
from diffusers_nested.publishing import prepare_publication
from diffusers_nested.publishing.card import write_card
from diffusers_nested.publishing.scores import check_evaluation
from diffusers_nested.publishing.sections import Section, complete
from hub.steps import ALICE, published

BASE = "alice/base"
LOAD = NestedAdapter.from_source
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
    return prepare_publication(folder, "alice/nested", load=LOAD, **{"base_model": BASE, **keywords}).card(published)


def snippet(text: str) -> str:
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


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
    """A result that somebody else measured, beside ours."""
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
    NestedAdapter.publish(folder, "alice/nested", token=ALICE, base_model=BASE)
    repo = hub.repos["alice/nested"]
    edited = repo.files()["README.md"].decode().replace("## Limits\n", "## Limits\n\nEdited on its page.\n")
    repo.edit(**{"README.md": edited.encode()})
    NestedAdapter.publish(folder, "alice/nested", token=ALICE)  # the card provides the base model too
    assert repo.files()["README.md"].decode() == edited


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


def test_sections():
    ours, theirs = Section("Use", "new", generated=True), Section("Limits", "fill in", generated=False)
    once = complete("# Title\n", [ours, theirs])
    assert complete(once, [ours, theirs]) == once
    assert "newer" in complete(once, [Section("Use", r"newer \1", generated=True), theirs])
    assert complete(once, [Section("Use", "", generated=True)]).count("Use") == 0
    assert complete("# Title\n\n## use\n\nmy own\n", [ours]) == "# Title\n\n## use\n\nmy own\n"
    assert complete("# Title\n\nLimits and uses\n", [theirs]).endswith("## Limits\n\nfill in\n")


HOSTILE = [
    '"); __import__("os").system("id")  # ',
    "'); print(1)",
    '\\"); print(1) #',
    "a\\",
    "\\N{DIGIT ONE}\\x41{1+1}",
    "a\nimport os\n",
    "a\r\nb\tc\x00\x1b[31m",
    "a\u2028b\u2029c\x85d\x0c",
    "\u202eevil\u202c \u200b\ufeff",
    "```\n<script>alert(1)</script>\n```python\n",
    "~~~\nx\n~~~ ~~gone~~",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "<!-- diffusers-nested: use --> <!-- /diffusers-nested: use -->",
    "--> <!--",
    "&lt;b&gt; &amp; &#60;b&#62; &copy;",
    "![x](http://example.com/x.png) [x](javascript:alert(1)) [y]: z",
    "*a* _b_ **c** __d__ `e` ``f`` $x$ $$y$$",
    "a | b || c \\| d",
    "# a\n## Limits\n\n- b\n1. c\n> d\n---\n===",
    "a\n---\nlicense: mit\n...\n--- !!python/object:os.system",
    "{{ x }} {% y %} : - ? [ ] , !tag &anchor *alias @ %",
    "x" * 200,
    "日本語 e\u0301 🧑\u200d🚀",
    " a ",
]


class Elements(HTMLParser):
    """Tags of a page with the names of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *sorted(name for name, _ in attrs)))

    def handle_endtag(self, tag):
        self.tags.append(("/", tag))

    def handle_comment(self, data):
        self.tags.append(("comment", data))

    def handle_decl(self, decl):
        self.tags.append(("declaration",))

    def handle_pi(self, data):
        self.tags.append(("instruction",))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def facts(saved_adapter):
    return prepare_publication(saved_adapter, "alice/nested", load=LOAD, base_model=BASE).facts


def card_with(facts, value: str) -> ModelCard:
    """A card in which a stranger chose every name."""
    results = {value: {value: [0.5, 0.25, 0.75], "other": [1, 1, 1]}, "plain": {"other": [1, 1, 1]}}
    names = dict.fromkeys(("subject_token", "mechanism", "image_encoder"), value)
    return write_card(
        replace(
            facts,
            config={**facts.config, **names},
            load_keywords=dict.fromkeys(("subfolder", "revision", "variant"), value),
            evaluation=check_evaluation({"results": results}, "evaluation"),
            pictures=[f"samples/{value}.png"],
            own_encoders=(),
            license=value,
        )
    )


def calls(code: str) -> Iterator[tuple[str, list, dict]]:
    """Name, values and named values of every call of a method in a program."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            yield (
                name,
                [argument.value for argument in node.args if isinstance(argument, ast.Constant)],
                {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)},
            )


@pytest.mark.parametrize("value", HOSTILE)
class TestNamesOfStrangers:
    def test_in_the_example_they_are_texts(self, facts, value):
        code = snippet(card_with(facts, value).text)
        found = {name: (values, named) for name, values, named in calls(code)}
        assert found["load_nested_adapter"] == (
            ["alice/nested"],
            {"subfolder": value, "revision": value, "variant": value},
        )
        (prompt,), _ = found["pipe"]
        assert prompt.removeprefix("a photo of a").removeprefix("n").removeprefix(" ") == f"{value} on the beach"
        harmless = snippet(card_with(facts, "word").text)
        assert ast.dump(ast.parse(code)).count("Call(") == ast.dump(ast.parse(harmless)).count("Call(")
        assert len(code.splitlines()) == len(harmless.splitlines())

    def test_in_the_text_they_are_words(self, facts, value):
        markdown = pytest.importorskip("markdown")
        pages = [
            Elements(markdown.markdown(card_with(facts, name).text, extensions=["tables", "fenced_code"]))
            for name in (value, "word")
        ]
        assert pages[0].tags == pages[1].tags
        shown = " ".join(
            "".join(" " if ord(char) < 32 or char in "\x85\u2028\u2029" else char for char in value).split()
        )
        assert pages[0].text.count(shown) >= 6

    def test_in_the_metadata_they_are_values(self, facts, value):
        card = card_with(facts, value)
        data = yaml.safe_load(card.content.split("\n---\n")[0])
        harmless = yaml.safe_load(card_with(facts, "word").content.split("\n---\n")[0])
        assert data.keys() == harmless.keys()
        assert data["license"] == value and data["metrics"] == [value, "other"]
        metrics = data["model-index"][0]["results"][0]["metrics"]
        assert [metric["name"] for metric in metrics] == [f"{value} ({value})", f"other ({value})", "other (plain)"]

    def test_the_card_is_completed_as_any_other(self, facts, value):
        first = card_with(facts, value).content
        again = write_card(replace(facts, base_model=None), published=first.encode())
        assert again.text == write_card(facts).text


DAMAGED_METADATA = {
    "base_model": ["5", "[]", "[1]", "{a: b}", "sdxl", "./sdxl", "'a/b\"); print(1)'", "2020-01-01"],
    "tags": ["5", "[[a]]", "[1]", "true"],
    "metrics": ["5", "[1]", "{a: b}"],
    "license": ["[mit]", "5", "{}", "false"],
    "library_name": ["5", "[a]"],
    "pipeline_tag": ["5"],
    "model_name": ["[a]"],
    "eval_results": ["5", "[5]", "text"],
    "model-index": ["5", "text", "[5]", "[{name: a}]", "[{name: a, results: [{task: b}]}]"],
    "get": ["5"],
    "to_dict": ["5"],
    "to_yaml": ["x"],
    "ignore_metadata_errors": ["x"],
    "self": ["x"],
    "5": ["x"],
    "[a]": ["x"],
    "x": ["!!python/object:os.system a", "[" * 1500 + "]" * 1500, "9" * 5000, "*nothing", "\x00"],
}


@pytest.mark.parametrize("name", DAMAGED_METADATA)
def test_metadata_of_a_wrong_type_are_named(facts, name):
    for value in DAMAGED_METADATA[name]:
        with pytest.raises(PublishError, match=r"metadata .*README\.md") as caught:
            write_card(facts, authors=f"---\n{name}: {value}\n---\n# Mine\n")
        assert len(str(caught.value)) < 1000


def test_a_metric_by_itself_is_one_metric(facts):
    assert write_card(facts, authors="---\nmetrics: fid\ntags: a\n---\n").data.metrics == ["fid"]


def test_metadata_behind_an_empty_line(facts):
    assert write_card(facts, authors="\n\n---\nlicense: mit\n---\n# Mine\n").data.license == "mit"


@pytest.mark.parametrize("mark", ["<!-- diffusers-nested: evaluation -->", "<!-- /diffusers-nested: evaluation -->"])
def test_half_a_pair_of_marks_is_named(facts, mark):
    evaluated = replace(facts, evaluation=EVALUATION)
    text = write_card(evaluated).content
    with pytest.raises(PublishError, match="marks"):
        write_card(facts, authors=text.replace(mark, ""))


def test_a_copy_of_our_section_does_not_grow_old(facts):
    text = write_card(replace(facts, evaluation=EVALUATION)).content
    assert "0.770" not in write_card(facts, authors=text + text.split("---\n", 2)[2]).content
