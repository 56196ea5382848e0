"""What the Hub was asked, what goes wrong once, and what it refuses."""

from dataclasses import dataclass


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
