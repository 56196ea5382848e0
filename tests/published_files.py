"""What belongs to an adapter's publication, and how a test writes a file beside it."""

from pathlib import Path

from hub.steps import WEIGHTS

ADAPTER = {
    "config.json",
    WEIGHTS,
    "image_encoder/config.json",
    "image_encoder/model.safetensors",
    "feature_extractor/preprocessor_config.json",
}
EVALUATION = {"identities": 3, "prompts": ["a"], "results": {"scale 1": {"identity": [0.75, 0.5, 1.0]}}}


def write(name: str, text: str):
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return change
