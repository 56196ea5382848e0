"""Steps that the tests of the Hub share."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter
from hub.repository import Repo
from hub.server import HubServer

PROMPT = "a photo of a person walking a pet in the snow"
ALICE, BOB = "token-alice", "token-bob"
BASE = "alice/base"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def generate(pipeline, **keywords) -> np.ndarray:
    """A picture in two denoising steps, of the subject in a photo unless `keywords` say otherwise."""
    settings = {"nested_adapter_image": tiny.photo(3), "num_inference_steps": 2, "output_type": "np"}
    generator = torch.Generator().manual_seed(0)
    return pipeline(PROMPT, generator=generator, height=16, width=16, **{**settings, **keywords}).images[0]


def published(hub: HubServer, folder: Path, repo_id: str = "alice/nested", **changes) -> str:
    """Put a folder on the Hub as a repository, without publishing it."""
    repo = hub.repos.setdefault(repo_id, Repo())
    for name, value in changes.items():
        setattr(repo, name, value)
    tree = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return repo.commit("main", tree, "new")


def to_hub(folder: Path, repo_id: str = "alice/nested", **keywords) -> str:
    """Publish a folder, by default as Alice."""
    return NestedAdapter.publish(folder, repo_id, **{"token": ALICE, "base_model": BASE, **keywords})


def check_untouched(pipeline, processors: dict) -> None:
    """Assert that nothing was loaded: the plain class and the original processors."""
    assert not pipeline.nested_adapters
    assert "_nested_original" not in type(pipeline).__dict__
    now = pipeline.unet.attn_processors
    assert now.keys() == processors.keys() and all(now[name] is processors[name] for name in now)


def move_encoder(folder: Path, hub) -> None:
    """Put the adapter's image encoder into a repository of its own, which the adapter names."""
    towers = folder.parent / f"{folder.name}-towers" / "models"
    for name in ("image_encoder", "feature_extractor"):
        shutil.move(folder / name, towers / name)
    published(hub, towers.parent, "alice/towers")
    config = json.loads((folder / "config.json").read_text())
    config["image_encoder"] = "alice/towers/models/image_encoder"
    (folder / "config.json").write_text(json.dumps(config))
