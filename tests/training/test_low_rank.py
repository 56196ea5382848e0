"""Training of low-rank projections, end to end."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter
from diffusers_nested.training import train_adapter


@pytest.mark.slow
def test_it_learns_resumes_and_is_saved_small(pipeline, image_encoder, triplets, settings):
    frozen = {name: x.clone() for name, x in pipeline.unet.state_dict().items()}

    def train(config):
        adapter = tiny.adapter(pipeline.unet, projection_rank=2)
        adapter.fuse()  # training takes the UNet's weights anew
        return train_adapter(pipeline, image_encoder, adapter, triplets, config)

    config = settings("whole", max_train_steps=4, use_ema=True, ema_decay=0.5, lr_scheduler="constant")
    whole = train(config)
    cut = replace(config, output_dir=settings("cut").output_dir, max_train_steps=2)
    train(cut)
    resumed = train(replace(cut, max_train_steps=4, resume_from_checkpoint="latest"))
    ours, theirs = whole.state_dict(), resumed.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    learned = [x for name, x in ours.items() if "lora_B" in name]
    assert learned and all(x.abs().max() > 0 for x in learned)
    assert all(torch.equal(x, pipeline.unet.state_dict()[name]) for name, x in frozen.items())
    for file in ("diffusion_pytorch_model.safetensors", "checkpoint-4/adapter/diffusion_pytorch_model.safetensors"):
        names = load_file(config.folder / file)
        assert all(".lora_" in name for name in names if name.startswith("projections."))
    loaded = NestedAdapter.from_pretrained(config.folder, unet=pipeline.unet)
    tokens = torch.randn(1, 3, 40)
    for path, (key, _) in loaded.project(tokens).items():
        assert torch.equal(key, whole.project(tokens)[path][0])
