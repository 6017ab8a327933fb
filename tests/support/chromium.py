"""A headless Chromium that a test opens pages in, presses keys in and looks at.

It is spoken to in the DevTools protocol over a pair of pipes (`--remote-debugging-pipe`): a message
is JSON and a zero byte.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from support.needs import leave_out
from support.pace import patience

KEYS = {
    **{"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40},
    **{"Home": 36, "End": 35, "PageUp": 33, "PageDown": 34},
    **{"Enter": 13, "Escape": 27, "Backspace": 8, "Shift": 16},
}
"""Keys that have no text, and their Windows codes, by which Chromium knows them."""

LAUNCH = """
import os, sys
here, there, *command = sys.argv[1:]
os.dup2(int(here), 3)
os.dup2(int(there), 4)
os.execv(command[0], command)
"""
"""It has the pipes as descriptors 3 and 4."""


LOADED = """
new Promise(done => {
    if (document.readyState === "complete") done();
    else addEventListener("load", () => done());
})
"""


class Chromium:
    """One window with one page."""

    def __init__(self) -> None:
        program = shutil.which("chromium")
        if program is None:
            leave_out("pages in a browser", "needs chromium: apt-get install chromium")
        self._folder = TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        theirs_in, self._out = _pipe()
        self._in, theirs_out = _pipe()
        arguments = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--no-first-run", f"--user-data-dir={self._folder.name}"),
            *("--disable-dev-shm-usage", "--remote-debugging-pipe", "--window-size=1280,760"),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), program, *arguments],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        self._rest = b""
        self._asked = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        """What the browser said by itself."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")
        self.ask("Emulation.setFocusEmulationEnabled", enabled=True)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(patience(30))
        os.close(self._in)
        os.close(self._out)
        self._folder.cleanup()

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's result."""
        self._asked += 1
        message: dict[str, Any] = {"id": self._asked, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            heard = self._hear()
            if heard.get("id") == self._asked:
                assert "error" not in heard, heard["error"]
                return heard["result"]

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], patience(60))
            data = os.read(self._in, 1 << 20) if ready else b""
            assert data, "chromium says nothing any more"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        heard = json.loads(message)
        if "id" not in heard:
            self.events.append(heard)
        return heard

    def open(self, file: Path, where: str = "") -> None:
        """Show this file, and wait until its script has run."""
        self.ask("Page.navigate", url="about:blank")
        self.events.clear()
        self.ask("Page.navigate", url=f"{file.as_uri()}{where}")
        # Asked of the page: an event that says so may still be the blank one's.
        self.ask("Runtime.evaluate", expression=LOADED, awaitPromise=True)
        # A browser lets keys fall until it has shown the page. One that means nothing tells.
        self.run("addEventListener('keydown', () => { window.heard = true; }, true)")
        while not self.run("window.heard"):
            self.press("Shift")

    def run(self, script: str) -> Any:
        """The value of an expression, in the page."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def press(self, *keys: str) -> None:
        for key in keys:
            code = KEYS.get(key, 0)
            how = {"key": key, "windowsVirtualKeyCode": code}
            if not code:
                how["text"] = key
            elif key == "Enter":
                how["text"] = "\r"
            self.ask("Input.dispatchKeyEvent", type="keyDown", **how)
            self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def colours(self, scheme: str) -> None:
        """`light` or `dark`."""
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", features=wanted)

    def picture(self) -> bytes:
        """A PNG of the window."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])

    def complaints(self) -> list[str]:
        """Errors of the page's script, and of the browser about the page."""
        return [
            json.dumps(event["params"])
            for event in self.events
            if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")
        ]

    def fetched(self) -> list[str]:
        """Addresses that the page asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]


def _pipe() -> tuple[int, int]:
    """Its ends, with numbers that are not in the way of 3 and 4."""
    ends = os.pipe()
    reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return reader, writer
