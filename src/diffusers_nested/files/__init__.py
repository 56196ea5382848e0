"""Files from strangers: what a file claims about itself is checked before its contents are used.

Weights are read from safetensors only; pickles are never opened.
"""

from .headers import FLOAT_TYPES, TensorInfo, check_tensors, read_header
from .index import read_index
from .json_files import names_shown, parse_json, read_json, shown
from .paths import CONFIG_NAME, check_repository, file_in, is_download, is_file, is_folder, plain_path

__all__ = [
    "CONFIG_NAME",
    "FLOAT_TYPES",
    "TensorInfo",
    "check_repository",
    "check_tensors",
    "file_in",
    "is_download",
    "is_file",
    "is_folder",
    "names_shown",
    "parse_json",
    "plain_path",
    "read_header",
    "read_index",
    "read_json",
    "shown",
]
