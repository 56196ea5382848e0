"""Layers, words and rows of the ComfyUI nodes, against what ComfyUI is known to call and to read."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfyui_stand_in import Tokenizer

from clip_vocabulary import sdxl_tokenizers
from diffusers_nested.backbones import BACKBONES
from integrations.comfyui.layers import find_layers
from integrations.comfyui.positions import TAG, Prompt, find_word
from integrations.comfyui.rows import find_rows, lengthened, repeated

# ComfyUI's blocks with attention: name of the block, depth and width of its transformer
SDXL = {
    **{f"input_blocks.{i}.1": (2, 640) for i in (4, 5)},
    **{f"input_blocks.{i}.1": (10, 1280) for i in (7, 8)},
    "middle_block.1": (10, 1280),
    **{f"output_blocks.{i}.1": (10, 1280) for i in (0, 1, 2)},
    **{f"output_blocks.{i}.1": (2, 640) for i in (3, 4, 5)},
}
SD15 = {
    **{f"input_blocks.{i}.1": (1, 320) for i in (1, 2)},
    **{f"input_blocks.{i}.1": (1, 640) for i in (4, 5)},
    **{f"input_blocks.{i}.1": (1, 1280) for i in (7, 8)},
    "middle_block.1": (1, 1280),
    **{f"output_blocks.{i}.1": (1, 1280) for i in (3, 4, 5)},
    **{f"output_blocks.{i}.1": (1, 640) for i in (6, 7, 8)},
    **{f"output_blocks.{i}.1": (1, 320) for i in (9, 10, 11)},
}


def unet(blocks: dict[str, tuple[int, int]], levels: int) -> Any:
    """What the layers are found in: names, and numbers of heads."""
    modules = [("out.0", object())]
    for block, (depth, width) in blocks.items():
        layer = SimpleNamespace(heads=width // 64, dim_head=64, to_k=SimpleNamespace(in_features=2048))
        names = [f"{block}.transformer_blocks.{i}" for i in range(depth)]
        modules += [(f"{name}.{kind}", layer) for name in names for kind in ("attn1", "attn2")]
    return SimpleNamespace(named_modules=lambda: iter(modules), num_res_blocks=[2] * levels)


@pytest.mark.parametrize("family, blocks, levels, count", [("sdxl", SDXL, 3, 70), ("sd15", SD15, 4, 16)])
def test_layers_have_the_paths_of_diffusers(family, blocks, levels, count):
    layers = find_layers(unet(blocks, levels))
    assert {path: layer.width for path, layer in layers.items()} == BACKBONES[family].base_models[0].layers
    assert len(layers) == len({layer.key for layer in layers.values()}) == count


def test_layers_know_their_blocks_and_levels():
    layers = find_layers(unet(SDXL, 3))
    shown = {path: (layer.key, layer.level) for path, layer in layers.items()}
    assert shown["down_blocks.1.attentions.0.transformer_blocks.1.attn2"] == (("input", 4, 1), 1)
    assert shown["down_blocks.2.attentions.1.transformer_blocks.9.attn2"] == (("input", 8, 9), 2)
    assert shown["mid_block.attentions.0.transformer_blocks.3.attn2"] == (("middle", 0, 3), 2)
    assert shown["up_blocks.0.attentions.2.transformer_blocks.0.attn2"] == (("output", 2, 0), 2)
    assert shown["up_blocks.1.attentions.0.transformer_blocks.0.attn2"] == (("output", 3, 0), 1)


@cache
def tokenizer() -> Tokenizer:
    first, second = sdxl_tokenizers()
    return Tokenizer(g=second, l=first)


LONG = " ".join(["walk"] * 74)
WORDS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "one piece": ("a photo of a person", "person", (5,)),
    "twice": ("a person and a person", "person", (2, 5)),
    "with a weight": ("a photo of a (person:1.3), smiling", "person", (5,)),
    "upper case": ("a photo of a Person.", "PERSON", (5,)),
    "several pieces": ("a labradoodle", "labradoodle", (2, 3)),
    "a phrase, half of it weighted": ("a (red:1.2) fox", "red fox", (2, 3)),
    "brackets of its own": ("a (very \\(tall\\) man:0.8)", "(tall)", (3, 4, 5)),
    "in the second chunk": (f"{LONG} a person", "person", (78,)),
    "from the first chunk into the second": (f"{LONG} labradoodle", "labradoodle", (75, 78)),
}


@pytest.mark.parametrize("text, word, expected", WORDS.values(), ids=WORDS)
def test_words_are_found(text, word, expected):
    prompt = Prompt.read(tokenizer(), text)
    assert prompt.positions(word) == expected
    assert prompt.length == (154 if LONG in text else 77)


@pytest.mark.parametrize("word", ["cat", "person", "!", " "])
def test_parts_of_words_padding_and_nothing_are_no_words(word):
    prompt = Prompt.read(tokenizer(), "a personal bobcat")
    with pytest.raises(ValueError, match=r"2:personal</w>|Name a word"):
        prompt.positions(word)


def test_embeddings_are_words():
    read = Tokenizer(**tokenizer().tokenizers)
    read.embeddings = {"cat": torch.randn(3, 4), "dog": torch.randn(2, 4)}
    prompt = Prompt.read(read, "a embedding:dog embedding:cat in the snow")
    assert prompt.positions("embedding:cat") == (4, 5, 6)
    assert prompt.positions("snow") == (9,)


def test_texts_with_different_positions_are_refused():
    prompt = Prompt.read(tokenizer(), "a person")
    moved = tuple(token._replace(position=token.position + 1) for token in prompt.readings["l"])
    both = Prompt(prompt.tokenizer, {"g": prompt.readings["g"], "l": moved}, 77)
    with pytest.raises(ValueError, match=r"\[2\] for 'g' and \[3\] for 'l'"):
        both.positions("person")
    assert "'g' as" in str(both) and "'l' as" in str(both)


def test_entries_of_a_conditioning_without_the_word_are_left_out():
    states = torch.zeros(1, 77, 4)
    with_word, without = (Prompt.read(tokenizer(), text) for text in ("a person", "a snowy hill"))
    entries = [[states, {TAG: without}], [states + 1, {TAG: with_word}], [states, {}]]
    ((found, positions),) = find_word("person", entries)
    assert torch.equal(found, states + 1) and positions == (2,)
    with pytest.raises(ValueError, match="'king' is not in the prompt"):
        find_word("king", entries)
    with pytest.raises(ValueError, match=r"shape \(2, 77, 4\)"):
        find_word("person", [[torch.zeros(2, 77, 4), {TAG: with_word}]])


def test_rows_are_found_in_any_order_and_length():
    first, second, other = torch.randn(3, 1, 4, 2).unbind(0)
    twice = second[:, :2]
    batch = torch.cat([other, first, other, first, twice.repeat(1, 2, 1), twice.repeat(1, 2, 1)])
    known = [lengthened(states, batch) for states in (first, twice)]
    assert find_rows(batch, known, [1, 1, 0]) == [None, None, None, None, 1, 1]
    assert find_rows(batch, known, [0, 0, 0]) == [None, 0, None, 0, 1, 1]
    assert find_rows(batch, known, [1, 1, 2]) == [None, 0, None, 0, 1, 1]  # three sides, the positive one last
    assert lengthened(torch.zeros(1, 3, 2), batch) is None and lengthened(torch.zeros(1, 4, 5), batch) is None
    assert repeated((1, 3), 4, 12) == (1, 3, 5, 7, 9, 11)
