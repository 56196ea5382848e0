"""Text files with one thing per line, as people write them by hand."""

from pathlib import Path

from ..errors import NestedAdapterError


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a UTF-8 file that hold something, with their numbers, without space around them.

    Lines end at a newline only (with or without a carriage return before it): a text may hold the other characters
    that Unicode counts as ends of lines. A byte order mark at the beginning, as some editors write it, is not text.

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
