"""Pipelines with adapters to look into, and what their layers are given, caught from outside."""

from functools import cache

import pytest
import torch

import tiny_pipeline
from diffusers_nested.backbones import cross_attention_layers


@pytest.fixture(scope="session")
def loaded_of(tmp_path_factory):
    """A case's pipeline with two adapters of its mechanism, "person" and "pet"; one for all tests."""
    tower = tmp_path_factory.mktemp("tower")
    tiny_pipeline.image_encoder().save_pretrained(tower / "image_encoder")
    tiny_pipeline.image_processor().save_pretrained(tower / "feature_extractor")

    @cache
    def build(case):
        pipeline = case.build()
        settings = {"image_encoder": str(tower / "image_encoder"), "mechanism": case.mechanism}
        for word in ("person", "pet"):
            made = tiny_pipeline.adapter(pipeline.unet, len(word), subject_token=word, **settings)
            pipeline.load_nested_adapter(made.requires_grad_(False))
        return pipeline

    return build


class Inputs:
    """What the cross-attention layers of a UNet were given: path -> list of (hidden states, prompt embeddings)."""

    def __init__(self, unet):
        self.of = {path: [] for path in cross_attention_layers(unet)}
        self._hooks = []
        for path, layer in cross_attention_layers(unet).items():
            self._hooks.append(layer.register_forward_pre_hook(self._catch(path), with_kwargs=True))

    def _catch(self, path):
        def hook(layer, args, kwargs):
            text = kwargs["encoder_hidden_states"]
            self.of[path].append((args[0].clone(), (text[0] if isinstance(text, tuple) else text).clone()))

        return hook

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for hook in self._hooks:
            hook.remove()


@pytest.fixture
def inputs_of():
    return Inputs


def weights(query, key):
    """softmax(q Kᵀ / √d) of single vectors: query (d,), key (N, d)."""
    logits = torch.stack([torch.dot(query, one) for one in key]) / query.shape[0] ** 0.5
    powers = torch.exp(logits - logits.max())
    return powers / powers.sum()


@pytest.fixture
def attention():
    return weights
