"""A small Hub over HTTP, for the real client: repositories, branches, tags, tokens, large files, and faults.

It keeps everything in memory. `requests` is what it was asked, in order; `faults` are things that go wrong once.
"""

from http.server import ThreadingHTTPServer
from threading import Condition, Thread

from hub.asked import Fault, Request
from hub.handler import Handler
from hub.repository import Repo


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
