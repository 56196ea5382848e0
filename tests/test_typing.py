"""What a type checker sees: the package is typed, and so is a pipeline class that takes the mixin."""

import json
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

SNIPPET = """
import diffusers
from diffusers_nested import NestedAdapterMixin

class StableDiffusionXLPipeline(NestedAdapterMixin, diffusers.StableDiffusionXLPipeline): ...

pipe = StableDiffusionXLPipeline.from_pretrained("base")
pipe.load_nested_adapter("people", "sub", "w.safetensors", adapter_name="person")
pipe.load_nested_adapter(["people", "pets"], torch_dtype=None)
pipe.set_nested_adapter_scale({"person": 2.0, "pet": {"down": 1.0}})
image = pipe("a photo of a person", nested_adapter_image="me.png", num_inference_steps=20).images[0]
pipe.enable_model_cpu_offload()
scale: float = pipe.nested_adapters["person"].config["alpha"]
pipe.set_nested_adapter_storage("cpu", pipe.unet.dtype)
pipe.set_nested_adapter_cache(0)
pipe.load_nested_adapter("people", adaptor_name="person")  # wrong
pipe.load_nested_adapter("people", subfolder=3)  # wrong
pipe.set_nested_adapter_scale("2.0")  # wrong
pipe.set_nested_adapter_storage(dtype="int8")  # wrong
pipe.set_nested_adapter_cache("2")  # wrong
"""


def test_the_package_says_that_it_is_typed():
    assert files("diffusers_nested").joinpath("py.typed").is_file()


@pytest.mark.slow
def test_a_type_checker_knows_the_methods_and_their_keywords(tmp_path: Path):
    pyright = shutil.which("pyright", path=Path(sys.executable).parent)
    if pyright is None:
        pytest.skip("pyright is not installed")
    (tmp_path / "snippet.py").write_text(SNIPPET)
    # of transformers nothing is needed, and its thousands of files are most of the work
    (tmp_path / "typings" / "transformers").mkdir(parents=True)
    (tmp_path / "typings" / "transformers" / "__init__.pyi").write_text("def __getattr__(name: str): ...")
    package = Path(str(files("diffusers_nested"))).parent
    settings = {"include": ["snippet.py"], "extraPaths": [str(package)], "reportPrivateImportUsage": False}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [pyright, "--outputjson", "--pythonpath", sys.executable, "--project", tmp_path]
    found = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    flagged = {one["range"]["start"]["line"] for one in found["generalDiagnostics"] if one["severity"] == "error"}
    wrong = {number for number, line in enumerate(SNIPPET.splitlines()) if line.endswith("# wrong")}
    assert flagged == wrong, found["generalDiagnostics"]
    assert found["summary"]["filesAnalyzed"] == 1
