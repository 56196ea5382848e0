"""What the Hub answers, for each address."""

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import unquote

from hub.asked import Refused
from hub.connection import Connection
from hub.repository import Repo, entry, git_oid, is_large


class Handler(Connection):
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
