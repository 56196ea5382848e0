"""Names that others chose, as they stand in a card: values in its example, plain words in its text."""

import unicodedata


def python_literal(value: str) -> str:
    """A text as Python source on one line, in double quotes.

    It ends neither a comment, nor a block of code in Markdown, nor a comment in HTML.
    """
    return '"' + "".join(map(_in_python, value)) + '"'


def markdown_text(value: str) -> str:
    """A text that Markdown shows as it is, in a line or in the cell of a table."""
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
    # a backslash before these is shown by some renderers
    return f"&#{ord(char)};" if char in "<>&|~$" else char
