"""Quoting of names that others chose, so that they are safe in a card's code and text."""

import unicodedata


def python_literal(value: str) -> str:
    """A string literal in Python, on one line and in double quotes.

    It cannot end a code block in Markdown or a comment in HTML.
    """
    return '"' + "".join(map(_in_python, value)) + '"'


def markdown_text(value: str) -> str:
    """Text that Markdown shows literally, in a line or in the cell of a table."""
    words = "".join(" " if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") else char for char in value)
    return "".join(map(_in_markdown, " ".join(words.split())))


def _in_python(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable() and char not in "<`":
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _in_markdown(char: str) -> str:
    if char in "\\`*_{}[]#!":
        return "\\" + char
    # some renderers show a backslash before these
    return f"&#{ord(char)};" if char in "<>&|~$" else char
