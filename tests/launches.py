"""Counts the operations that a call makes and that compute something, each a launch on a GPU."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

# Not marked as views, and yet no kernel runs: what they return is read elsewhere, or written by the next operation.
FREE = (
    *("prim::device", "aten::promote_types", "aten::_unsafe_view", "aten::detach"),
    *("aten::empty", "aten::empty_like", "aten::new_empty"),
)


class Launches(TorchDispatchMode):
    """Records the names of all operations but views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func._schema.name not in FREE:
            self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))
