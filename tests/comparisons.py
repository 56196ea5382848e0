"""Settings of comparisons in the miniature, and the files that a comparison leaves."""

from pathlib import Path

PEOPLE = {"kind": "nested", "adapter": "miniature:people", "scales": [1.0]}
TOML = """
output = "{output}"
prompts = ["a photo of a {{}} on the beach", "a watercolor of a {{}} wearing a red shirt"]
seeds = 2
batch_size = 4
call = {{ num_inference_steps = 2 }}
subjects = {{ source = "miniature:people", count = 3 }}
[contestants]
plain = {{ kind = "plain" }}
people = {{ kind = "nested", adapter = "miniature:people", scales = [1.0] }}
[metrics]
text = "miniature-text"
identity = "miniature-identity"
outside = {{ kind = "outside", box = [0.1, 0, 0.9, 1] }}
"""


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file in a folder: path -> content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
