"""Chromium without a window, driven over a pipe by its DevTools protocol: what a page asked for, said and shows.

Source: https://chromedevtools.github.io/devtools-protocol/, and --remote-debugging-pipe in Chromium's
content/public/common/content_switches.cc: messages of JSON, each ended by a zero byte, on descriptors 3 and 4.
"""

import base64
import json
import os
import select
import shutil
import subprocess
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
_PATIENCE_S = 120
"""Until a browser that says nothing is taken for hung."""


def find_browser() -> str | None:
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


class Browser:
    """One page of one browser; `events` are what it has told of its own accord, oldest first."""

    def __init__(self, program: str, profile: Path):
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        wiring = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
        with (profile.parent / f"{profile.name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", wiring, "bash", program, *_FLAGS, f"--user-data-dir={profile}"],
                pass_fds=(to_browser, from_browser),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(to_browser)
        os.close(from_browser)
        self._unread = b""
        self._number = 0
        self._session = {}
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session = {}
        self.call("Browser.close")
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **parameters) -> dict:
        """Return the browser's answer to one command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def show(self, path: Path, *, width: int = 1280, dark: bool = False, media: str = "") -> None:
        """Open a file and wait until all of it is loaded; `media` instead of that which is in use."""
        self.events.clear()
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def evaluate(self, script: str):
        """Return the value of an expression on the page; None if it has none."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """Return all of the page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip={**size, "scale": 1})
        return base64.b64decode(answer["data"])

    def pdf(self) -> bytes:
        """Return the page as it is printed on A4, as PDF."""
        answer = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)
        return base64.b64decode(answer["data"])

    def requests(self) -> list[str]:
        """Return every URL that was asked for since the page was opened."""
        return [event["params"]["request"]["url"] for event in self._told("Network.requestWillBeSent")]

    def complaints(self) -> list[dict]:
        """Return what stands on the console, and every exception."""
        return (
            self._told("Log.entryAdded")
            + self._told("Runtime.consoleAPICalled")
            + self._told("Runtime.exceptionThrown")
        )

    def _told(self, method: str) -> list[dict]:
        return [event for event in self.events if event.get("method") == method]

    def _read(self) -> dict:
        while b"\0" not in self._unread:
            if not select.select([self._from], [], [], _PATIENCE_S)[0]:
                raise TimeoutError("the browser says nothing")
            if not (read := os.read(self._from, 1 << 20)):
                raise ConnectionError(f"the browser ended with {self._process.wait()}")
            self._unread += read
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)


def rgb(colour):
    digits = colour.strip().removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    return tuple(bytes.fromhex(digits))


def luminance(colour):
    """Return the relative luminance of an sRGB colour, from 0 to 1, as WCAG 2.1 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
