"""Handwritten text files with one item per line."""

from pathlib import Path

from ..errors import NestedAdapterError


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read the lines of a UTF-8 file that are not blank, stripped, with their numbers.

    Lines end only at a newline, with or without a carriage return: texts may contain the other characters that Unicode
    counts as line ends. A byte order mark, as some editors write it, is skipped.

    Raises:
        NestedAdapterError: A line is not in UTF-8; the message has its number.
    """
    lines = []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise NestedAdapterError(
                f"{path}, line {number}, is not in UTF-8: {line[:80]!r}. Save the file as UTF-8."
            ) from error
        if text.strip():
            lines.append((number, text.strip()))
    return lines
