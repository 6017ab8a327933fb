"""What happened, a line of JSON each: `{"ns": 0, "domain": "guest", "what": "send", "port": 3}`.

Two runs that take the same choices write the same bytes. So nothing is written that differs from
one process to the next: no address, no hash, no wall-clock time.
"""

from __future__ import annotations

import json
from typing import Any


class Trace:
    """A trace in memory, for a file at the end (`views.suffix`). `events` is everything noted so
    far."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def note(self, ns: int, domain: str, what: str, **details: Any) -> None:
        self.events.append({"ns": ns, "domain": domain, "what": what, **details})

    def lines(self) -> str:
        return "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in self.events)
