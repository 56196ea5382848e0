"""A small Hub over HTTP, for the real client: repositories, branches, tags, tokens, large files, and faults.

It keeps everything in memory. `requests` is what it was asked, in order; `faults` are things that go wrong once.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

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


@dataclass
class Request:
    method: str
    path: str
    status: int
    sent: int  # bytes of the body

    @property
    def is_download(self) -> bool:
        return self.method == "GET" and "/resolve/" in self.path and self.sent > 0


@dataclass
class Fault:
    """The next request of this method whose path contains `path` is cut half-way, or gets this status."""

    method: str
    path: str
    status: int | None = None


class Refused(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": message or code, **headers}


class HubServer(ThreadingHTTPServer):
    """Tokens are `token-NAME`; NAME may write to its own repositories `NAME/…`."""

    daemon_threads = True
    users = ("alice", "bob", "user")

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.busy, self.quiet = 0, Condition()
        self.reset()

    def reset(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.noted: list[Request] = []
        self.faults: list[Fault] = []

    @property
    def requests(self) -> list[Request]:
        """All of them: a client may go on before its last request has been noted, so this waits for that."""
        with self.quiet:
            self.quiet.wait_for(lambda: not self.busy, timeout=10)
            return self.noted

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def start(self) -> None:
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def downloads(self) -> list[str]:
        """Paths of the files whose content was sent."""
        return [request.path for request in self.requests if request.is_download]

    def take_fault(self, method: str, path: str) -> Fault | None:
        found = next((fault for fault in self.faults if fault.method == method and fault.path in path), None)
        if found is not None:
            self.faults.remove(found)
        return found


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


class Handler(BaseHTTPRequestHandler):
    server: HubServer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.handle_any()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.body = self.read_body()
        path, self.sent = unquote(url.path), 0
        with self.server.quiet:
            self.server.busy += 1
            noted = self.server.noted
        self.fault = self.server.take_fault(self.command, path)
        status = 0
        try:
            if self.fault is not None and self.fault.status is not None:
                status, self.fault = self.fault.status, None
                raise Refused(status, message="out of order")
            if self.fault is not None and self.command != "GET":
                self.close_connection = True  # no answer at all
                return
            status = self.route(url.path)
        except Refused as refused:
            status = refused.status
            self.answer(b"{}", status, refused.headers)
        finally:
            with self.server.quiet:
                noted.append(Request(self.command, path, status, self.sent))
                self.server.busy -= 1
                self.server.quiet.notify_all()

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> int:
        self.send_response(status)
        for name, value in (headers or {}).items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return status
        if self.fault is not None:  # cut: half of what was promised
            body, self.close_connection = body[: len(body) // 2], True
        self.wfile.write(body)
        self.sent = len(body)
        return status

    def json(self, value: Any, status: int = 200) -> int:
        return self.answer(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    # Who asks, and what they may.

    def user(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        if token.removeprefix("token-") not in self.server.users:
            raise Refused(401, message="Invalid credentials in Authorization header")
        return token.removeprefix("token-")

    def readable(self, name: str) -> Repo:
        user, repo = self.user(), self.server.repos.get(name)
        if repo is None or (repo.private and user != name.split("/")[0]):
            raise Refused(401 if user is None else 404, "RepoNotFound", "Repository not found")
        return repo

    def writable(self, name: str, for_request: bool = False) -> Repo:
        user, repo = self.user(), self.readable(name)
        if user is None:
            raise Refused(401, message="Invalid username or password.")
        if user != name.split("/")[0] and not for_request:
            raise Refused(403, message="You don't have the rights to write here.")
        return repo

    def commit_of(self, repo: Repo, revision: str) -> str:
        sha = repo.resolve(revision)
        if sha is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    # What they ask for.

    def route(self, path: str) -> int:
        for method, pattern, action in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method.split():
                return action(self, *(unquote(part) for part in match.groups() if part is not None))
        raise Refused(404, message=f"no route for {self.command} {path}")

    def whoami(self) -> int:
        user = self.user()
        if user is None:
            raise Refused(401, message="Invalid username or password.")
        return self.json({"name": user, "type": "user", "orgs": []})

    def create(self) -> int:
        user, asked = self.user(), json.loads(self.body)
        if user is None:
            raise Refused(401, message="Invalid username or password.")
        owner = asked.get("organization") or user
        name = f"{owner}/{asked['name']}"
        if owner != user:
            raise Refused(403, message="You don't have the rights to create a model under this namespace.")
        status = 409 if name in self.server.repos else 200
        if status == 200:
            self.server.repos[name] = Repo(private=asked.get("visibility") == "private")
        return self.json({"url": f"{self.server.url}/{name}"}, status)

    def validate(self) -> int:
        return self.json({"errors": [], "warnings": []})

    def info(self, name: str, revision: str = "main") -> int:
        repo = self.readable(name)
        sha = self.commit_of(repo, revision)
        siblings = [{"rfilename": path, "size": len(content)} for path, content in repo.commits[sha].items()]
        about = {"id": name, "sha": sha, "private": repo.private, "gated": repo.readers is not None and "manual"}
        return self.json({**about, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings})

    def tree(self, name: str, revision: str, folder: str = "") -> int:
        repo = self.readable(name)
        files = repo.commits[self.commit_of(repo, revision)]
        inside = {path: content for path, content in files.items() if path.startswith(folder and folder + "/")}
        return self.json([entry(path, content) for path, content in inside.items()])

    def refs(self, name: str) -> int:
        repo = self.readable(name)
        kinds = (("branches", "heads", repo.branches), ("tags", "tags", repo.tags))
        listed = {
            kind: [{"name": ref, "ref": f"refs/{folder}/{ref}", "targetCommit": sha} for ref, sha in refs.items()]
            for kind, folder, refs in kinds
        }
        return self.json({**listed, "converts": [], "pullRequests": []})

    def branch(self, name: str, branch: str) -> int:
        repo = self.writable(name)
        if branch in repo.branches:
            return self.json({"error": "exists"}, 409)
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repo.branches[branch] = self.commit_of(repo, start)
        return self.json({})

    def tag(self, name: str, revision: str) -> int:
        repo = self.writable(name)
        repo.tags[json.loads(self.body)["tag"]] = self.commit_of(repo, revision)
        return self.json({})

    def preupload(self, name: str, revision: str) -> int:
        repo = self.writable(name, for_request="create_pr" in self.query)
        files = repo.commits[self.commit_of(repo, revision)]
        return self.json({"files": [self.upload_mode(file["path"], files) for file in json.loads(self.body)["files"]]})

    def upload_mode(self, path: str, files: dict[str, bytes]) -> dict[str, Any]:
        mode: dict[str, Any] = {"path": path, "uploadMode": "lfs" if is_large(path) else "regular"}
        if path in files:
            large = is_large(path)
            mode["oid"] = hashlib.sha256(files[path]).hexdigest() if large else git_oid(files[path])
        return {**mode, "shouldIgnore": False}

    def batch(self, name: str) -> int:
        self.readable(name)
        objects = []
        for asked in json.loads(self.body)["objects"]:
            href = f"{self.server.url}/lfs/{asked['oid']}"
            actions = {"upload": {"href": href, "header": {}}, "verify": {"href": href, "header": {}}}
            known = asked["oid"] in self.server.blobs
            objects.append({**asked, **({} if known else {"actions": actions})})
        return self.json({"transfer": "basic", "objects": objects})

    def put_large(self, oid: str) -> int:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(400, message="content and oid differ")
        self.server.blobs[oid] = self.body
        return self.json({})

    def verify_large(self, oid: str) -> int:
        return self.json({}, 200 if oid in self.server.blobs else 404)

    def commit(self, name: str, revision: str) -> int:
        request = "create_pr" in self.query
        repo = self.writable(name, for_request=request)
        tree = dict(repo.commits[self.commit_of(repo, revision)])
        message = ""
        for line in self.body.splitlines():
            part = json.loads(line)
            value = part["value"]
            if part["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit", self.commit_of(repo, revision)) != self.commit_of(repo, revision):
                    raise Refused(412, message="A commit has happened since. Please refresh and try again.")
            elif part["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif part["key"] == "lfsFile":
                tree[value["path"]] = self.server.blobs[value["oid"]]
            elif part["key"] == "deletedFile":
                del tree[value["path"]]
        number = sum(branch.startswith("refs/pr/") for branch in repo.branches) + 1
        branch = f"refs/pr/{number}" if request else revision
        sha = repo.commit(branch, tree, message)
        answer = {"commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}", "success": True}
        if request:
            answer["pullRequestUrl"] = f"{self.server.url}/{name}/discussions/{number}"
        return self.json(answer)

    def resolve(self, name: str, revision: str, path: str) -> int:
        repo = self.readable(name)
        user = self.user()
        if repo.readers is not None and user != name.split("/")[0] and user not in repo.readers:
            raise Refused(401 if user is None else 403, "GatedRepo", "Access to this repository is restricted.")
        sha = self.commit_of(repo, revision)
        if path not in repo.commits[sha]:
            raise Refused(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": sha})
        return self.send_file(sha, path, repo.commits[sha][path])

    def send_file(self, sha: str, path: str, content: bytes) -> int:
        large = is_large(path)
        etag = hashlib.sha256(content).hexdigest() if large else git_oid(content)
        headers = {"X-Repo-Commit": sha, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if large:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start is None:
            return self.answer(content, 200, headers)
        begin = int(start[1])
        headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        return self.answer(content[begin:], 206, headers)


MODEL = "/api/models/([^/]+/[^/]+)"
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("GET", MODEL, Handler.info),
    ("GET", f"{MODEL}/revision/([^/]+)", Handler.info),
    ("GET", f"{MODEL}/tree/([^/]+)(?:/(.+))?", Handler.tree),
    ("GET", f"{MODEL}/refs", Handler.refs),
    ("POST", f"{MODEL}/branch/(.+)", Handler.branch),
    ("POST", f"{MODEL}/tag/(.+)", Handler.tag),
    ("POST", f"{MODEL}/preupload/([^/]+)", Handler.preupload),
    ("POST", f"{MODEL}/commit/([^/]+)", Handler.commit),
    ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", "/lfs/([0-9a-f]+)", Handler.put_large),
    ("POST", "/lfs/([0-9a-f]+)", Handler.verify_large),
    ("GET HEAD", "/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", Handler.resolve),
]
