"""How the Hub takes a request and sends an answer, and who may read and write what."""

import json
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub.asked import Refused, Request
from hub.repository import Repo

if TYPE_CHECKING:
    from hub.server import HubServer


class Connection(BaseHTTPRequestHandler):
    server: "HubServer"  # pyright: ignore[reportIncompatibleVariableOverride]
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

    def route(self, path: str) -> int:
        """Answer what is asked at this path, and return the status."""
        raise NotImplementedError

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
