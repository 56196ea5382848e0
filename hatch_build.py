"""The package's description for a registry: the README, whose links lead to the project's home."""

import re
from pathlib import Path
from typing import Any

try:
    from hatchling.metadata.plugin.interface import MetadataHookInterface
except ImportError:  # the tests read `describe` where hatchling is not installed
    MetadataHookInterface = object

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?!https?:|#)[^)]+)\)")


def describe(readme: str, home: str, version: str) -> str:
    """The README for readers who have no clone.

    Args:
        readme: Its text, whose links are paths in the repository.
        home: Address of the repository; empty as long as it has none. Then pictures are left out, and of links
            their texts stay.
        version: Of the package; links lead to its tag.
    """

    def elsewhere(match: re.Match[str]) -> str:
        image, text, target = match["image"], match["text"], match["target"]
        if home:
            return f"{image}[{text}]({home}/{'raw' if image else 'blob'}/v{version}/{target})"
        return "" if image else text

    return _LINK.sub(elsewhere, readme)


class ReadmeHook(MetadataHookInterface):
    """Fills in ``readme`` and ``urls``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling with the project table of pyproject.toml."""
        home = self.config["home"].rstrip("/")
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = describe(readme, home, metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = {"Paper": "https://arxiv.org/abs/2501.01407"}
        if home:
            log = f"{home}/blob/v{metadata['version']}/CHANGELOG.md"
            metadata["urls"] |= {"Source": home, "Issues": f"{home}/issues", "Changelog": log}
