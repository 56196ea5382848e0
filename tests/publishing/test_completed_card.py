"""The author's card is completed, and what the author wrote is left alone."""

import json
from dataclasses import replace

import pytest
import yaml

from cards import EVALUATION, card_of, snippet
from diffusers_nested import NestedAdapter, PublishError
from diffusers_nested.publishing.card import write_card
from diffusers_nested.publishing.sections import Section, complete
from hub.steps import ALICE, BASE

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


def test_sections():
    ours, theirs = Section("Use", "new", generated=True), Section("Limits", "fill in", generated=False)
    once = complete("# Title\n", [ours, theirs])
    assert complete(once, [ours, theirs]) == once
    assert "newer" in complete(once, [Section("Use", r"newer \1", generated=True), theirs])
    assert complete(once, [Section("Use", "", generated=True)]).count("Use") == 0
    assert complete("# Title\n\n## use\n\nmy own\n", [ours]) == "# Title\n\n## use\n\nmy own\n"
    assert complete("# Title\n\nLimits and uses\n", [theirs]).endswith("## Limits\n\nfill in\n")


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
