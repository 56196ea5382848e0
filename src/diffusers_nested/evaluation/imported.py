"""Things of the user's own modules, named in settings."""

import importlib
import logging
from typing import Any

from ..errors import NestedAdapterError

logger = logging.getLogger(__name__)


def import_named(name: str, where: str) -> Any:
    """What ``"module:name"`` names; the module is imported, which runs its code.

    Args:
        name: Module and name, with a colon.
        where: Setting that holds it, for messages.

    Raises:
        NestedAdapterError: Not of this form, no such module, or nothing of this name that can be called.
    """
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise NestedAdapterError(f"{where} must be of the form MODULE:NAME, got {name!r}.")
    logger.info("importing the module %s, which %s names: its code runs", module, where)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, TypeError) as error:  # TypeError: a relative name
        raise NestedAdapterError(
            f"{where} names the module {module!r}, which cannot be imported ({error}). Run the command in its folder, "
            "or install it."
        ) from error
    if not callable(found):
        raise NestedAdapterError(f"{where}: the module {module!r} has no function or class {attribute!r}.")
    return found
