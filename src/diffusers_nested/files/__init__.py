"""Files that a stranger wrote: what they say of themselves is checked before anything that they hold is used.

The only format of weights is safetensors; pickles are never opened.
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
