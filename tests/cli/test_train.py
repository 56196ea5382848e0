"""`diffusers-nested train`, from its flags to an adapter that has learned."""

import json
from pathlib import Path

import pytest
import torch

from diffusers_nested import NestedAdapter, miniature
from diffusers_nested.cli import main

WORDS = "a photo of a person on the beach"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    lines = []
    for name in ("mira", "otto"):
        miniature.example(name).save(folder / f"{name}.png")
        lines.append(json.dumps({"input_file_name": f"{name}.png", "file_name": f"{name}.png", "text": WORDS}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def train(data: Path, *flags: str) -> int:
    return main(
        [
            "train",
            *("--pretrained_model_name_or_path", str(miniature.path())),
            *("--image_encoder_name_or_path", str(miniature.path("people") / "image_encoder")),
            *("--train_data_dir", str(data), "--output_dir", str(data.parent / "run")),
            *("--resolution", "32", "--train_batch_size", "2", "--max_train_steps", "1", *flags),
        ]
    )


def test_starts_from_an_earlier_adapter(data: Path):
    people = miniature.path("people")
    flags = ("--pretrained_adapter_name_or_path", str(people), "--num_queries", "32", "--alpha", "12")
    assert train(data, *flags, "--learning_rate", "1e-9") == 0
    before, after = NestedAdapter.from_pretrained(people), NestedAdapter.from_pretrained(data.parent / "run")
    assert after.config["num_queries"] == 32
    for name, tensor in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], tensor, rtol=0, atol=1e-7)


def test_a_folder_is_written_into_the_config_by_its_whole_path(data: Path, monkeypatch: pytest.MonkeyPatch):
    """A relative one would be a name on the Hub."""
    monkeypatch.chdir(miniature.path())
    assert train(data, "--image_encoder_name_or_path", "../people/image_encoder", "--num_queries", "2") == 0
    named = NestedAdapter.from_pretrained(data.parent / "run").config["image_encoder"]
    assert named == str((miniature.path("people") / "image_encoder").resolve())


def test_earlier_adapter_of_other_settings(data: Path, capsys: pytest.CaptureFixture):
    flags = ("--pretrained_adapter_name_or_path", str(miniature.path("pets")), "--num_queries", "32")
    assert train(data, *flags) == 2
    shown = capsys.readouterr().err
    assert "subject_token 'pet'" in shown and "num_queries" not in shown
    assert not (data.parent / "run").exists()
