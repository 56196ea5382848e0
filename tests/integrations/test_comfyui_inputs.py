"""What the nodes of ComfyUI take, what they refuse, and their example workflows."""

import json
import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfyui_stand_in as comfyui
import pytest
import torch
from comfyui_world import PROMPT, apply

import tiny_pipeline
from integrations.comfyui import NODE_CLASS_MAPPINGS, nodes
from integrations.comfyui.loading import Photos

WORKFLOWS = Path(nodes.__file__).parent / "example_workflows"
WIDGETS = ("STRING", "FLOAT")


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "missing word": ({"word": "king"}, ["'king' is not in the prompt", "5:person</w>"]),
    "part of a word": ({"word": "per"}, ["'per'"]),
    "negative scale": ({"scale": -1.0}, ["scale", "-1.0"]),
    "no steps": ({"start": 0.5, "end": 0.5}, ["start", "end"]),
    "no photo": ({"image": None}, ["Neither image nor photos"]),
    "empty batch": ({"image": torch.rand(0, 4, 4, 3)}, ["(0, 4, 4, 3)"]),
    "no weight": ({"image": None, "photos": Photos((torch.rand(3, 4, 4),), (0.0,))}, ["weight of 'Blend", "(0.0,)"]),
    "0 to 255": ({"image": torch.full((1, 4, 4, 3), 255.0)}, ["image has values up to 255, expected 0 to 1"]),
    "several masks": ({"mask": torch.ones(2, 4, 4)}, ["batch of 2"]),
    "empty mask": ({"mask": torch.zeros(1, 4, 4)}, ["mask of 'Apply Nested Adapter'", "0 everywhere"]),
}


@pytest.mark.parametrize("inputs, words", BAD.values(), ids=BAD)
def test_bad_inputs_are_named(world, inputs, words):
    plain = world.model()
    with pytest.raises(ValueError) as error:
        apply(world, plain, **inputs)
    assert all(word in str(error.value) for word in words), error.value
    assert plain.model_options == {"transformer_options": {}}


@pytest.mark.parametrize(
    "words, message", [(("person", "a person"), "'a person' and 'person'"), (("pet",) * 2, "'pet'")]
)
def test_words_that_overlap_are_both_named(world, words, message):
    first = apply(world, word=words[0])
    with pytest.raises(ValueError, match=message):
        apply(world, first, word=words[1])


def test_a_conditioning_must_say_what_it_was_made_of(world):
    encoded = [[world.encode(PROMPT), {}]]
    with pytest.raises(ValueError, match="'Nested Adapter Prompt'"):
        apply(world, positive=encoded)
    tagged = nodes.NestedAdapterPrompt().encode(world.clip, PROMPT, encoded)[0]
    apply(world, positive=tagged)
    two_chunks = [[torch.cat([encoded[0][0]] * 2, 1), {}]]
    with pytest.raises(ValueError, match="154 positions, but the text 77"):
        nodes.NestedAdapterPrompt().encode(world.clip, PROMPT, two_chunks)


def test_an_adapter_of_another_family_or_a_model_of_another_kind_is_refused(world, tmp_path):
    other = comfyui.ModelPatcher(tiny_pipeline.sd15_components()["unet"])
    with pytest.raises(ValueError, match=r"width 40, but the model reads 16.*made for SDXL"):
        apply(world, other)
    other.model = SimpleNamespace(diffusion_model=torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="is a Linear without cross-attention layers"):
        apply(world, other)


def test_what_cannot_be_loaded_is_named(world, tmp_path):
    load = nodes.LoadNestedAdapter().load
    alone = tiny_pipeline.save_adapter(tmp_path / "alone", tiny_pipeline.adapter(world.parts["unet"]))
    shutil.rmtree(alone / "image_encoder")
    with pytest.raises(ValueError, match=r"config names none\. Load it from"):
        load("(repository)", str(alone))
    with pytest.raises(ValueError, match=r"image_encoder is '\.\./here'"):
        load("humans", "", "../here")
    with pytest.raises(ValueError, match="no adapter 'pets'; found are humans"):
        load("pets")
    with pytest.raises(ValueError):
        load("(repository)", str(tmp_path))
    simple = tiny_pipeline.adapter(world.parts["unet"], mechanism="simple", alpha=None)
    tiny_pipeline.save_adapter(tmp_path / "simple", simple)
    with pytest.raises(ValueError, match="'simple', which is not there in ComfyUI"):
        load("(repository)", str(tmp_path / "simple"))
    lower = tiny_pipeline.adapter(world.parts["unet"], projection_rank=2)
    tiny_pipeline.save_adapter(tmp_path / "lower", lower)
    with pytest.raises(ValueError, match="Make them dense"):
        load("(repository)", str(tmp_path / "lower"))


def test_comfyui_can_import_the_folder(monkeypatch):
    """It makes a module of the folder by its path, wherever it lies."""
    file = Path(nodes.__file__).with_name("__init__.py")
    name = str(file.parent).replace(".", "_x_")
    spec = spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    assert list(module.NODE_CLASS_MAPPINGS) == list(module.NODE_DISPLAY_NAME_MAPPINGS) == list(NODE_CLASS_MAPPINGS)


def test_nodes_name_their_inputs_as_comfyui_wants_them(world):
    for name, node in NODE_CLASS_MAPPINGS.items():
        inputs = node.INPUT_TYPES()
        given = {**inputs["required"], **inputs.get("optional", {})}
        _, *taken = signature(getattr(node, node.FUNCTION)).parameters
        assert list(given) == taken, name
        json.dumps(inputs)  # the frontend gets it as JSON
    assert NODE_CLASS_MAPPINGS["LoadNestedAdapter"].INPUT_TYPES()["required"]["adapter"][0] == [
        "(repository)",
        "humans",
    ]


@pytest.mark.parametrize("file", sorted(WORKFLOWS.glob("*.json")), ids=lambda file: file.stem)
def test_example_workflows_connect_what_the_nodes_have(world, file):
    flow = json.loads(file.read_text(encoding="utf-8"))
    links = {link[0]: link for link in flow["links"]}
    for node in flow["nodes"]:
        ours = NODE_CLASS_MAPPINGS.get(node["type"])
        for name, socket in [(one["name"], one) for one in node["inputs"]]:
            assert socket["link"] is None or links[socket["link"]][3] == node["id"], name
            assert socket["link"] is None or links[socket["link"]][5] == socket["type"], name
        if ours is None:
            continue
        inputs = ours.INPUT_TYPES()
        kinds = {name: one[0] for name, one in {**inputs["required"], **inputs.get("optional", {})}.items()}
        sockets = {name: kind for name, kind in kinds.items() if kind not in WIDGETS and isinstance(kind, str)}
        assert {one["name"]: one["type"] for one in node["inputs"]} == sockets
        assert len(node["widgets_values"]) == len(kinds) - len(sockets)
        assert [one["type"] for one in node["outputs"]] == list(ours.RETURN_TYPES)
        missing = [one["name"] for one in node["inputs"] if one["link"] is None and one["name"] in inputs["required"]]
        assert not missing
