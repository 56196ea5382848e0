"""Training on shards: the same examples as on the folder that they were made of, and exactly resumed."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapterError
from diffusers_nested.data import open_training_set
from diffusers_nested.preparing import write_shards
from diffusers_nested.training.loop import Run
from same_states import same


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Four examples in two shards, one of them with two subjects."""
    source, lines = tmp_path / "source", []
    source.mkdir()
    for i in range(4):
        tiny.photo(i).save(source / f"in-{i}.png")
        tiny.photo(100 + i, 20 + i).save(source / f"out-{i}.png")
        lines.append({"input_file_name": f"in-{i}.png", "file_name": f"out-{i}.png", "text": "a photo of a person"})
    both = [{"word": "person", "file_name": "in-1.png"}, {"word": "child", "file_name": "in-0.png"}]
    lines[1] = {"subjects": both, "file_name": "out-1.png", "text": "a photo of a person walking a child"}
    (source / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    write_shards(source, tmp_path / "shards", 2)
    return tmp_path / "shards"


@pytest.mark.slow
def test_a_run_on_shards_goes_on(train, settings, packed: Path, monkeypatch):
    told, backward = [], Run._backward

    def see(self: Run, samples, part: int) -> torch.Tensor:
        told.extend(int(frame[0]) for frame in samples.frames)
        return backward(self, samples, part)

    monkeypatch.setattr(Run, "_backward", see)
    more = {"cache_features": False, "lr_scheduler": "constant", "max_train_steps": 4}
    whole = train(settings("whole", **more), open_training_set(packed))
    wanted = list(told)
    assert Counter(wanted) == {20: 2, 21: 2, 22: 2, 23: 2}  # two epochs, told apart by the sizes of the targets
    assert {frozenset(wanted[i : i + 2]) for i in (0, 2)} == {frozenset({20, 21}), frozenset({22, 23})}  # by shard
    told.clear()
    train(settings("cut", **{**more, "max_train_steps": 2}), open_training_set(packed))
    moved = packed.rename(packed.with_name("elsewhere"))
    resumed = settings("cut", **more, resume_from_checkpoint="latest")
    assert same(train(resumed, open_training_set(moved)).state_dict(), whole.state_dict())
    assert told == wanted
    (moved / "index.json").write_text((moved / "index.json").read_text().replace('"sha256": "', '"sha256": "0'))
    with pytest.raises(NestedAdapterError, match="dataset was "):
        train(resumed, open_training_set(moved))
