"""The notebooks run from the first cell to the last, and are notebooks."""

import ast
import re
from pathlib import Path

import jupytext
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
# what takes long, and is done twice only; sets that need not be large here
LONG = r"""((?:num_inference_steps"?|max_train_steps|train_batch_size|"pets", )[=: ]*)\d+"""
PICTURES = {"first-steps": 5, "see-inside": 5, "an-encoder-for-pets": 2}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shown, namespace = [], {"__name__": "__main__"}
    for cell in jupytext.read(path).cells:
        if cell.cell_type == "code":
            shown.append(run(re.sub(LONG, r"\g<1>2", cell.source), namespace))
    assert sum(isinstance(one, Image.Image) for one in shown) == PICTURES[path.stem]


def run(code: str, namespace: dict) -> object:
    """What a notebook would show below the cell: the value of its last expression."""
    body = ast.parse(code).body
    last = body.pop().value if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "<cell>", "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last), "<cell>", "eval"), namespace)


def test_the_page_names_them_all():
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert NOTEBOOKS and not [path.name for path in NOTEBOOKS if f"`notebooks/{path.name}`" not in page]
