"""`activations attach` in dom0 of a real Xen, as tests run it there."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from xen_lab import Lab

SYNC = "/tmp/attach"


def sh(lab: Lab, domain: str, script: str, timeout: float = 60.0) -> str:
    """Run a script, which has to succeed; what it printed."""
    status, output = lab.shell(domain, ["sh", "-e", "-c", textwrap.dedent(script)], timeout)
    assert status == 0, output
    return output


class Attached:
    """The command, running in dom0, once it has said a first word. Pipes tell of that and of its
    end: to look again and again would take the processor that it runs on."""

    def __init__(self, lab: Lab, *words: str) -> None:
        self._lab = lab
        command = " ".join(words)
        sh(
            lab,
            "dom0",
            f"""
            rm -rf {SYNC}; mkdir {SYNC}
            cd {SYNC}
            mkfifo output begun over
            (
                (read -r line; echo "$line" > out; echo > begun; exec cat >> out) < output &
                reader=$!
                activations attach {command} --json > output 2>&1 &
                echo $! > pid
                s=0; wait $! || s=$?
                wait $reader; echo $s > status; echo > over
            ) &
            read -r line < begun
            """,
        )

    def events(self) -> list[dict[str, Any]]:
        text = self._lab.shell("dom0", ["cat", f"{SYNC}/out"])[1]
        return [json.loads(line) for line in text.splitlines()]

    def interrupt(self) -> None:
        """Ctrl-C."""
        sh(self._lab, "dom0", f"kill -INT $(cat {SYNC}/pid)")

    def ended(self, timeout: float = 60.0) -> int:
        """Wait for the end; the exit status."""
        waiting = f"cd {SYNC}; read -r line < over; cat status"
        return int(sh(self._lab, "dom0", waiting, timeout))
