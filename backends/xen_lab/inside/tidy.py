"""Between two runs, in dom0: what the halves left in xenstore goes, and guests get their names.

Spoken to xenstored directly. Each of Xen's commands for it is a process, and the five that it took
cost more time in there than the run of a scenario.
"""

from __future__ import annotations

import os
import select
from collections.abc import Mapping

from activations.abi.xenstore_paths import HOMES
from activations.abi.xs_wire import MessageType
from activations.store.wire import Decoder, Message, octets, text
from xen_linux.store import connect

TOOLSTACK = frozenset(
    (
        *("vm", "name", "cpu", "memory", "device", "control", "data", "drivers", "feature", "attr"),
        *("error", "domid", "store", "console", "backend", "device/suspend", "backend/console"),
    )
)
"""What in a domain's folder, or in one of `FOLDERS` there, is the toolstack's and stays."""
FOLDERS = ("data", "device", "backend")
CHUNK = 64 << 10


class Talk:
    """Questions to xenstored, each answered before the next."""

    def __init__(self) -> None:
        self._descriptor = connect()
        self._decoder = Decoder()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._descriptor)

    def list(self, path: str) -> list[str]:
        """What is in a folder; nothing if it is not there."""
        reply = self._ask(MessageType.DIRECTORY, octets(path) + b"\0")
        if reply.kind == MessageType.ERROR:
            return []
        return text(reply.payload).rstrip("\0").split("\0") if reply.payload else []

    def rm(self, path: str) -> None:
        self._ask(MessageType.RM, octets(path) + b"\0")

    def write(self, path: str, value: str) -> None:
        self._ask(MessageType.WRITE, octets(path) + b"\0" + octets(value))

    def _ask(self, kind: MessageType, payload: bytes) -> Message:
        os.write(self._descriptor, Message(kind, payload).encode())
        while True:
            select.select([self._descriptor], [], [])
            data = os.read(self._descriptor, CHUNK)
            if not data:
                raise ConnectionError("xenstored closed the connection")
            for message in self._decoder.feed(data):
                return message


def tidy(names: Mapping[str, str]) -> None:
    """Remove what is not the toolstack's from the domains' folders; rename, by domid."""
    with Talk() as store:
        for domid in store.list(HOMES):
            at = f"{HOMES}/{domid}"
            found = store.list(at)
            inside = [f"{each}/{name}" for each in FOLDERS for name in store.list(f"{at}/{each}")]
            for place in (*found, *inside):
                if place not in TOOLSTACK:
                    store.rm(f"{at}/{place}")
        for domid, name in names.items():
            store.write(f"{HOMES}/{domid}/name", name)
