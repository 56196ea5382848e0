"""Completing a text: sections of ours are kept up to date, everything else stays the author's."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..errors import PublishError

_GENERATED = re.compile(r"<!-- diffusers-nested: ([^\n]*?) -->.*?<!-- /diffusers-nested: \1 -->\n?", re.DOTALL)
_HEADING = re.compile(r"##\s+(\S.*?)\s*")
_FENCE = re.compile(r" {0,3}(```|~~~)")


class Section(NamedTuple):
    """A part of a page under a heading.

    Attributes:
        heading: The heading, without its marks.
        text: What stands below it.
        generated: Whether it is ours to write anew each time, between two marks; otherwise it is the author's, and
            only put in where it is missing.
    """

    heading: str
    text: str
    generated: bool


def complete(text: str, sections: Sequence[Section]) -> str:
    """The text with all sections.

    A generated section replaces what stands between its marks; without text it goes. Where the author wrote a section
    of the same heading without marks, theirs stays. The others are put at the end, in their order.

    Raises:
        PublishError: One of the two marks of a section is missing.
    """
    for section in sections:
        text = _with_section(text, section)
    return text.strip() + "\n"


def keep_written(text: str, earlier: str, sections: Sequence[Section]) -> str:
    """The text with the author's sections of an earlier version that it lacks.

    A section that is in both stays as it is in the text, unless it is still to be written there.

    Args:
        text: What the author has now.
        earlier: What was published, perhaps edited there.
        sections: Those that `complete` puts in.
    """
    to_write = {section.heading.lower(): section.text for section in sections if not section.generated}
    for heading, body in _written(_GENERATED.sub("", earlier)):
        placeholder = to_write.get(heading.lower())
        if placeholder is not None and placeholder in body:
            continue
        if not _has(text, heading):
            text = f"{text.rstrip()}\n\n## {heading}\n\n{body}\n"
        elif placeholder is not None:
            text = text.replace(placeholder, body)
    return text


def block_of(text: str, heading: str) -> str:
    """What stands between the marks of a generated section; empty if there are none."""
    found = re.search("{}(.*?){}".format(*map(re.escape, _marks(heading))), text, re.DOTALL)
    return "" if found is None else found[1]


def _with_section(text: str, section: Section) -> str:
    begin, end = _marks(section.heading)
    body = f"## {section.heading}\n\n{section.text.strip()}"
    block = f"{begin}\n{body}\n{end}" if section.generated else body
    if text.count(begin) != text.count(end):
        raise PublishError(
            f"README.md has only one of the two marks {begin!r} and {end!r}, so what to write anew is not known. Put "
            "the other one back, or take out both with what was between them."
        )
    before, *blocks = re.split(rf"{re.escape(begin)}.*?{re.escape(end)}", text, flags=re.DOTALL)
    if blocks:
        rest = "".join(blocks)  # a copy of a block is left out, it would grow old
        return before + block + rest if section.text else f"{before.rstrip()}\n\n{rest.lstrip()}"
    if not section.text or _has(text, section.heading):
        return text
    return f"{text.rstrip()}\n\n{block}\n"


def _marks(heading: str) -> tuple[str, str]:
    return f"<!-- diffusers-nested: {heading.lower()} -->", f"<!-- /diffusers-nested: {heading.lower()} -->"


def _has(text: str, heading: str) -> bool:
    return re.search(rf"^#+\s+{re.escape(heading)}\s*$", text, re.IGNORECASE | re.MULTILINE) is not None


def _written(text: str) -> Iterator[tuple[str, str]]:
    """Heading and body of every section of the second level; marks of headings in code are code."""
    heading, body, fence = "", list[str](), ""
    for line in text.split("\n"):
        opening = _FENCE.match(line)
        if opening is not None and fence in ("", opening[1]):
            fence = "" if fence else opening[1]
        found = None if fence else _HEADING.fullmatch(line)
        if found is None:
            body.append(line)
            continue
        if heading:
            yield heading, "\n".join(body).strip()
        heading, body = found[1], []
    if heading:
        yield heading, "\n".join(body).strip()
