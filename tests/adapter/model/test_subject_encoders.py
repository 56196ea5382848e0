"""Subject encoders of an adapter other than the Q-Former."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from adapter_files import edit_config, same_bits
from diffusers_nested.adapter import NestedAdapter, checks
from diffusers_nested.adapter.subject_encoders import SUBJECT_ENCODERS
from diffusers_nested.errors import AdapterLoadError, NestedAdapterError
from diffusers_nested.files.rules import one_of
from tiny import FEATURES, tiny_adapter


class Linear(torch.nn.Module):
    """A subject encoder other than the Q-Former: a linear layer on the mean of the features."""

    settings: ClassVar[dict[str, Any]] = {}
    features: ClassVar[str] = "last"
    reads_empty_image: ClassVar[bool] = False

    def __init__(self, features: int, tokens: int, width: int) -> None:
        super().__init__()
        self.to_tokens = torch.nn.Linear(features, tokens * width)
        self.width = width

    @classmethod
    def from_config(cls, config: Any) -> "Linear":
        return cls(config["image_feature_dim"], config["num_queries"], config["token_dim"])

    @staticmethod
    def check_config(config: Any) -> None:
        pass

    @staticmethod
    def estimated_parameters(config: Any) -> int:
        return (config["image_feature_dim"] + 1) * config["num_queries"] * config["token_dim"]

    def forward(self, features: Tensor) -> Tensor:
        return self.to_tokens(features.mean(1)).unflatten(-1, (-1, self.width))


def test_another_subject_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SUBJECT_ENCODERS, "linear", Linear)
    monkeypatch.setitem(checks._SETTINGS, "subject_encoder", one_of("qformer", "linear"))
    made = tiny_adapter(subject_encoder="linear")
    made.save_pretrained(tmp_path)
    loaded = NestedAdapter.from_pretrained(tmp_path)
    assert type(loaded.encoder) is Linear and loaded.config["subject_encoder"] == "linear"
    features = torch.randn(2, 5, FEATURES)
    assert same_bits(loaded.encode(features), made.encode(features))


def test_the_default_subject_encoder_needs_no_entry(folder: Path):
    assert "subject_encoder" not in json.loads((folder / "config.json").read_text())
    edit_config(folder, lambda config: config.update(subject_encoder="qformer"))
    NestedAdapter.from_pretrained(folder)


@pytest.mark.parametrize("name", ["", "perceiver", None, 3, ["qformer"]])
def test_unknown_subject_encoder_names_the_known_ones(folder: Path, name: Any):
    with pytest.raises(NestedAdapterError, match="subject_encoder must be one of qformer"):
        tiny_adapter(subject_encoder=name)
    edit_config(folder, lambda config: config.update(subject_encoder=name))
    with pytest.raises(AdapterLoadError, match="subject_encoder must be one of qformer"):
        NestedAdapter.from_pretrained(folder)
