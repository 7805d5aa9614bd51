"""Pages in a headless Chromium, which is spoken to by its DevTools protocol over two pipes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from missing import missing

PATIENCE: Final = 30.0
"""Seconds of host time for one answer."""


class Browser:
    """One tab."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from, self._rest = to_browser, from_browser, b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        """What the tab has reported so far, the oldest first."""
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session: dict[str, Any] = {}
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._call(f"{domain}.enable", {})

    def open(self, page: Path) -> None:
        """Until it is loaded."""
        self._call("Page.navigate", {"url": page.as_uri()})
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        found = self._call("Runtime.evaluate", {"expression": expression, "returnByValue": True})
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """In the middle of the first element that a selector finds, as a user would."""
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent",
                       {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1})  # fmt: skip

    def show(self, width: int, height: int, dark: bool = False) -> None:
        """In a window of this size, by a user who prefers dark colours or light ones."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", {"features": [scheme]})

    def screenshot(self) -> bytes:
        """As a PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", {"format": "png"})["data"])

    def requests(self) -> list[str]:
        """What was asked for by the page, itself among it."""
        return [it["params"]["request"]["url"] for it in self.events if it["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[dict[str, Any]]:
        """Whatever is in the console, and what was not caught."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [event for event in self.events if event["method"] in kinds]

    def close(self) -> None:
        """The browser with it."""
        self._session = {}
        self._call("Browser.close", {})

    def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **(self._session if self._number > 2 else {})}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        """The next message; events are kept."""
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(until - time.monotonic(), 0))
            assert ready, f"Chromium did not answer within {PATIENCE:g} s"
            data = os.read(self._from, 1 << 20)
            assert data, "Chromium has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        if "method" in found:
            self.events.append(found)
        return found


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a fresh profile in that folder."""
    chromium = shutil.which("chromium")
    if chromium is None:
        missing("no chromium to open pages with (Debian: apt install chromium)")
    (read_there, to_browser), (from_browser, write_there) = _pipe(), _pipe()
    # As root it has no sandbox.
    command = (
        chromium, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--hide-scrollbars", "--no-first-run", f"--user-data-dir={profile}",
    )  # fmt: skip
    process = os.posix_spawn(chromium, command, os.environ, file_actions=[
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2),
        # It reads its descriptor 3 and writes its descriptor 4.
        (os.POSIX_SPAWN_DUP2, read_there, 3), (os.POSIX_SPAWN_DUP2, write_there, 4),
    ])  # fmt: skip
    os.close(read_there)
    os.close(write_there)
    try:
        tab = Browser(to_browser, from_browser)
        yield tab
        tab.close()
    finally:
        os.close(to_browser)
        os.close(from_browser)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _pipe() -> tuple[int, int]:
    """Where to read and where to write: by numbers that the browser has no use of its own for."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
