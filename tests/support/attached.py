"""`activations attach` in dom0 of a real Xen, as tests run it there."""

from __future__ import annotations

import json
import signal
import textwrap
from typing import Any

from xen_lab import Lab


def sh(lab: Lab, domain: str, script: str, timeout: float = 60.0) -> str:
    """Run a script, which has to succeed; what it printed."""
    status, output = lab.shell(domain, ["sh", "-e", "-c", textwrap.dedent(script)], timeout)
    assert status == 0, output
    return output


class Attached:
    """The command, running in dom0, once it has said a first word."""

    def __init__(self, lab: Lab, *words: str) -> None:
        self._program = lab.start("dom0", ["activations", "attach", *words, "--json"])
        self._program.says("\n")

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._program.output.splitlines()]

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._program.signal(signal.SIGINT)

    def kill(self) -> None:
        self._program.signal(signal.SIGKILL)
        assert self._program.ended() == -signal.SIGKILL

    def ended(self, timeout: float = 60.0) -> int:
        """Wait for the end; the exit status."""
        return self._program.ended(timeout)
