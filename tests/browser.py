"""A headless Chromium, driven by the WebDriver protocol."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One session."""

    def __init__(self, address: str, profile: Path, downloads: Path) -> None:
        self._address = address
        options = {
            "binary": BROWSER,
            "args": [*_FLAGS, f"--user-data-dir={profile}", "--window-size=1100,1000"],
            "prefs": {"download.default_directory": str(downloads), "download.prompt_for_download": False},
        }
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        made = self._send("POST", "/session", {"capabilities": wanted})
        self._session = f"/session/{made['sessionId']}"

    def open(self, page: Path | str) -> None:
        address = page if isinstance(page, str) else page.as_uri()
        self._send("POST", f"{self._session}/url", {"url": address})

    def reload(self) -> None:
        self._send("POST", f"{self._session}/refresh", {})

    def click(self, selector: str) -> None:
        self._send("POST", f"{self._session}/element/{self._find(selector)}/click", {})

    def fill(self, selector: str, text: str) -> None:
        self._send("POST", f"{self._session}/element/{self._find(selector)}/value", {"text": text})

    def wait(self, script: str, seconds: float = 120) -> None:
        """Until a script returns something that is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {script}")
            time.sleep(0.1)

    def text(self, selector: str) -> str:
        return self._send("GET", f"{self._session}/element/{self._find(selector)}/text")

    def attribute(self, selector: str, name: str) -> Any:
        return self._send("GET", f"{self._session}/element/{self._find(selector)}/attribute/{name}")

    def is_shown(self, selector: str) -> bool:
        return self._send("GET", f"{self._session}/element/{self._find(selector)}/displayed")

    def press(self, key: str) -> None:
        steps = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        actions = [{"type": "key", "id": "keyboard", "actions": steps}]
        self._send("POST", f"{self._session}/actions", {"actions": actions})

    def run(self, script: str) -> Any:
        return self._send("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("GET", f"{self._session}/screenshot")))

    def close(self) -> None:
        self._send("DELETE", self._session)

    def _find(self, selector: str) -> str:
        using = {"using": "css selector", "value": selector}
        return self._send("POST", f"{self._session}/element", using)[_ELEMENT]

    def _send(self, method: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._address + path, data, headers, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
            return json.load(answer)["value"]


@contextmanager
def browser(profile: Path, downloads: Path) -> Iterator[Browser]:
    """A browser with a new, empty profile, closed at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert DRIVER is not None
    with subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        try:
            _wait_for(port)
            session = Browser(f"http://127.0.0.1:{port}", profile, downloads)
            try:
                yield session
            finally:
                session.close()
        finally:
            driver.terminate()


def _wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("chromedriver does not answer")
