"""What the Hub keeps: repositories with their commits, branches and tags, and files as it lists them."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

LARGE = (".safetensors", ".png", ".jpg", ".bin", ".pt")  # stored as large files, whatever their size


@dataclass
class Repo:
    """Commits are whole trees: path -> content."""

    private: bool = False
    readers: set[str] | None = None  # who was granted access; None: not gated
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.commit("main", {}, "initial commit")

    def commit(self, branch: str, tree: dict[str, bytes], message: str) -> str:
        seed = json.dumps([branch, message, len(self.commits), sorted((p, git_oid(c)) for p, c in tree.items())])
        sha = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[sha], self.branches[branch] = tree, sha
        self.messages.append(message)
        return sha

    def resolve(self, revision: str) -> str | None:
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        return sha if sha in self.commits else None

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Path -> content at a revision; a copy, as commits do not change."""
        sha = self.resolve(revision)
        assert sha is not None
        return dict(self.commits[sha])

    def edit(self, **changes: bytes | None) -> None:
        """Somebody's commit on main; None deletes a file."""
        tree: dict[str, bytes | None] = {**self.files(), **changes}
        self.commit("main", {path: content for path, content in tree.items() if content is not None}, "edit")


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith(LARGE)


def entry(path: str, content: bytes) -> dict[str, Any]:
    """A file in a listing."""
    item: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
    if is_large(path):
        item["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return item
