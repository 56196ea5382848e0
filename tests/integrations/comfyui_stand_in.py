"""ComfyUI's part of the contract, for tests without ComfyUI: how it reads prompts, patches models and batches prompts.

Written from the behaviour of ComfyUI 0.3.64; ``test_real_comfyui.py`` compares the two where ComfyUI is at hand. The
UNet is one of diffusers, whose cross-attention runs as ComfyUI's transformer blocks run it.
"""

import copy
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LENGTH = 77
# The tiny UNets of the tests: where ComfyUI has each transformer, by its path in diffusers.
BLOCKS = {
    "down_blocks.0.attentions.0": ("input", 1),
    "down_blocks.1.attentions.0": ("input", 3),
    "mid_block.attentions.0": ("middle", 0),
    "up_blocks.0.attentions.0": ("output", 0),
    "up_blocks.0.attentions.1": ("output", 1),
    "up_blocks.1.attentions.0": ("output", 2),
    "up_blocks.1.attentions.1": ("output", 3),
}


class Tokenizer:
    """Tokenizers that read one text, by name; "(word:1.2)" is a weight, and a chunk has 77 tokens."""

    def __init__(self, **tokenizers: Any) -> None:
        self.tokenizers = tokenizers
        self.embeddings: dict[str, Tensor] = {}

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False) -> dict[str, list[list[tuple]]]:
        read = {name: self._chunks(self._segments(text, one), one) for name, one in self.tokenizers.items()}
        if return_word_ids:
            return read
        return {name: [[token[:2] for token in chunk] for chunk in chunks] for name, chunks in read.items()}

    def untokenize(self, pairs: Sequence[tuple[int, float]]) -> list[tuple[tuple[int, float], str]]:
        first = next(iter(self.tokenizers.values()))
        return [(pair, first.convert_ids_to_tokens([pair[0]])[0]) for pair in pairs]

    def _segments(self, text: str, tokenizer: Any) -> list[list[tuple[Any, float]]]:
        """Tokens of the parts that have one weight each, brackets of weights left out."""
        parts = re.findall(r"(?:\\[()]|[^()])+|\((?:\\[()]|[^()])+\)", text)
        segments = []
        for part in parts:
            weight = 1.0
            if part.startswith("("):
                part, _, given = part[1:-1].partition(":")
                weight = float(given or 1.1)
            for words in re.split(r" (?=embedding:)", part.replace("\\(", "(").replace("\\)", ")")):
                name, _, rest = words.partition(" ")
                if name.startswith("embedding:"):
                    segments.append([(vector, weight) for vector in self.embeddings[name[10:]]])
                    words = rest
                ids = tokenizer(words, add_special_tokens=False)["input_ids"]
                segments.append([(token, weight) for token in ids])
        return segments

    def _chunks(self, segments: list[list[tuple[Any, float]]], tokenizer: Any) -> list[list[tuple]]:
        start, end = (tokenizer.bos_token_id, 1.0, 0), (tokenizer.eos_token_id, 1.0, 0)
        pad = (tokenizer.pad_token_id, 1.0, 0)
        numbered = [(*token, number) for number, segment in enumerate(segments, 1) for token in segment]
        chunks = [numbered[i : i + LENGTH - 2] for i in range(0, max(len(numbered), 1), LENGTH - 2)]
        return [[start, *one, end, *[pad] * (LENGTH - 2 - len(one))] for one in chunks]


class Clip:
    """A CLIP whose embeddings are those of a pipeline's ``encode_prompt``."""

    def __init__(self, tokenizer: Tokenizer, encode: Callable[[str], Tensor]) -> None:
        self.tokenizer, self._encode = tokenizer, encode

    def tokenize(self, text: str) -> Any:
        return text

    def encode_from_tokens_scheduled(self, tokens: Any) -> list[list[Any]]:
        return [[self._encode(tokens), {"pooled_output": None}]]


class Unet(nn.Module):
    """A tiny UNet of diffusers under ComfyUI's names and patches."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self._unet = [unet]  # not a child: its names are not ComfyUI's
        self.num_res_blocks = [unet.config.layers_per_block] * len(unet.config.down_block_types)
        for path, module in unet.named_modules():
            if path.endswith("attn2"):
                self._add(path, module)

    def _add(self, path: str, module: Any) -> None:
        place, index = path.removesuffix(".attn2").split(".transformer_blocks.")
        part, number = BLOCKS[place]
        names = ["middle_block", "1"] if part == "middle" else [f"{part}_blocks", str(number), "1"]
        inner: nn.Module = self
        for name in [*names, "transformer_blocks", index]:
            if name not in dict(inner.named_children()):
                inner.add_module(name, nn.Module())
            inner = inner.get_submodule(name)
        layer = nn.Module()
        layer.heads, layer.dim_head = module.heads, module.inner_dim // module.heads
        layer.to_k = module.to_k
        inner.attn2 = layer

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any], **conditions: Any) -> Any:
        unet = self._unet[0]
        options["original_shape"] = list(x.shape)
        layers = {path: module for path, module in unet.named_modules() if path.endswith("attn2")}
        before = {path: layer.processor for path, layer in layers.items()}
        try:
            for path, layer in layers.items():
                layer.set_processor(_Block(path, options))
            return unet(x, timesteps, context, added_cond_kwargs=conditions).sample
        finally:
            for path, layer in layers.items():
                layer.set_processor(before[path])


class _Block:
    """The cross-attention of one of ComfyUI's transformer blocks, as a processor of diffusers."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        place, index = path.removesuffix(".attn2").split(".transformer_blocks.")
        self.key, self.options = (*BLOCKS[place], int(index)), options

    def __call__(self, attn: Any, n: Tensor, encoder_hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        extra = {key: value for key, value in self.options.items() if key not in ("patches", "patches_replace")}
        extra |= {"n_heads": attn.heads, "dim_head": attn.inner_dim // attn.heads, "attn_precision": None}
        extra |= {"block": self.key[:2], "block_index": self.key[2]}
        context = value = encoder_hidden_states
        for patch in self.options.get("patches", {}).get("attn2_patch", []):
            n, context, value = patch(n, context, value, extra)
        q, k, v = attn.to_q(n), attn.to_k(context), attn.to_v(value)
        replaced = self.options.get("patches_replace", {}).get("attn2", {})
        patch = replaced.get(self.key, replaced.get(self.key[:2]))
        out = optimized_attention(q, k, v, attn.heads) if patch is None else patch(q, k, v, extra)
        return attn.to_out[0](out)


def optimized_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, attn_precision: Any = None) -> Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class ModelPatcher:
    """A model with options, which clones copy."""

    def __init__(self, unet: Any) -> None:
        self.model = SimpleNamespace(diffusion_model=Unet(unet), manual_cast_dtype=None)
        self.load_device = torch.device("cpu")
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.wrappers: dict[str, dict[str, list[Any]]] = {}

    def clone(self) -> "ModelPatcher":
        other = copy.copy(self)
        other.model_options = copy.deepcopy(self.model_options)
        other.wrappers = {kind: {key: [*some] for key, some in keys.items()} for kind, keys in self.wrappers.items()}
        return other

    def set_model_attn2_patch(self, patch: Any) -> None:
        patches = self.model_options["transformer_options"].setdefault("patches", {})
        patches["attn2_patch"] = [*patches.get("attn2_patch", []), patch]

    def set_model_attn2_replace(self, patch: Any, block: str, number: int, index: int | None = None) -> None:
        replace = self.model_options["transformer_options"].setdefault("patches_replace", {}).setdefault("attn2", {})
        replace[(block, number) if index is None else (block, number, index)] = patch

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Any) -> None:
        self.wrappers.setdefault(kind, {}).setdefault(key, []).append(wrapper)

    def model_dtype(self) -> torch.dtype:
        return self.model.diffusion_model._unet[0].dtype

    def get_model_object(self, name: str) -> Any:
        assert name == "model_sampling"
        return SimpleNamespace(percent_to_sigma=percent_to_sigma)


def percent_to_sigma(percent: float) -> float:
    """A schedule whose noise falls from 10 to 0 in equal steps."""
    return 999999999.9 if percent <= 0 else 10 * (1 - min(percent, 1.0))


def denoise(
    model: ModelPatcher, positive: list, negative: list, x: Tensor, sigma: float, t: Any, conditions: Any
) -> Tensor:
    """The UNet's outputs for all conditionings, computed together: chunks of the positive ones first, (C, B, c, h, w).

    The UNet's other conditions have a pair of tensors each, of the positive and of the negative side.
    """
    both = [(states, 0) for states, _ in positive] + [(states, 1) for states, _ in negative]
    length = math.lcm(*[states.shape[1] for states, _ in both])
    rows = [states.repeat(len(x), length // states.shape[1], 1) for states, _ in both]
    options = copy.copy(model.model_options["transformer_options"])
    options |= {"cond_or_uncond": [kind for _, kind in both], "sigmas": torch.full((len(x),), sigma)}
    unet, count = model.model.diffusion_model, len(both)
    # ComfyUI casts embeddings to the model's type
    context = torch.cat(rows).to(x.dtype)
    more = {name: torch.cat([sides[kind] for _, kind in both]) for name, sides in conditions.items()}
    return unet(x.repeat(count, 1, 1, 1), t, context, options, **more).unflatten(0, (count, len(x)))


def sample(model: ModelPatcher, positive: list, negative: list, steps: Callable[[], Any]) -> Any:
    """A sampling, with its wrappers around the steps."""
    conds = {
        side: [{**options, "cross_attn": states} for states, options in some]
        for side, some in (("positive", positive), ("negative", negative))
    }
    guider = SimpleNamespace(model_options=model.model_options, model_patcher=model, conds=conds)
    call: Callable[[], Any] = steps
    for wrappers in model.wrappers.get("outer_sample", {}).values():
        for wrapper in wrappers:
            call = _Executor(wrapper, guider, call)
    return call()


class _Executor:
    def __init__(self, wrapper: Any, guider: Any, inner: Callable[[], Any]) -> None:
        self.class_obj, self._wrapper, self._inner = guider, wrapper, inner

    def __call__(self) -> Any:
        return self._wrapper(_Next(self.class_obj, self._inner))


class _Next:
    def __init__(self, guider: Any, inner: Callable[[], Any]) -> None:
        self.class_obj, self._inner = guider, inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner()


def install(monkeypatch: Any, models: Path) -> None:
    """Make the modules of ComfyUI that the nodes import, with its models in a folder."""
    paths: dict[str, list[str]] = {}

    def add(name: str, path: str) -> None:
        if path not in paths.setdefault(name, []):
            paths[name].append(path)

    management = SimpleNamespace(free_memory=lambda size, device: None, should_use_fp16=lambda: False)
    folder_paths = SimpleNamespace(models_dir=models, add_model_folder_path=add, get_folder_paths=lambda n: paths[n])
    attention = SimpleNamespace(optimized_attention=optimized_attention)
    for name, contents in {
        "comfy": {"model_management": management},
        "comfy.ldm": {},
        "comfy.ldm.modules": {},
        "comfy.ldm.modules.attention": vars(attention),
        "folder_paths": vars(folder_paths),
    }.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
