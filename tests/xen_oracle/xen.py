"""Xen's own C as a World, and as the witness against another one.

A library's state is global: one `Xen` at a time for each file. A second one is had from a copy of
the file (`copied`).
"""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .program import Kind, Step, encoded
from .world import PAGE_SIZE, Buffer, Domain, World

_DELIVERIES = {"vector": 0, "callback": 1, "pv": 2}
_CRASHED = 10_000
_SHOWN_CHANGES = 64
_ARGUMENT = 32


RESULT, ARGUMENT, SIGNALS, MEMORY, CHANGED, CRASH = 1, 2, 4, 8, 16, 32
"""What `check` saw, as flags: what differs; whether ports' states have changed; a crash."""


class Crashed(Exception):
    """Xen's C ran into one of its own BUG or ASSERT."""


class Library:
    """The functions of oracle.c."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = library = ctypes.CDLL(str(path))
        self.begin = library.oracle_begin
        self.domain = library.oracle_domain
        self.page = _function(library.oracle_page, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        self.perform = _function(library.oracle_perform, ctypes.c_long, ctypes.c_char_p)
        self.check = _function(
            library.oracle_check, ctypes.c_uint, ctypes.c_char_p, ctypes.c_uint, ctypes.c_long
        )
        self.compare = _function(library.oracle_compare, ctypes.c_uint, ctypes.c_bool)
        self.compare_with = _function(
            library.oracle_compare_with, None, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p
        )
        self.status = _function(library.oracle_status, ctypes.c_long, ctypes.c_uint, ctypes.c_uint)
        self._highest = _function(library.oracle_highest, ctypes.c_uint, ctypes.c_uint)
        self._valid = _function(library.oracle_valid, ctypes.c_uint, ctypes.c_uint)
        self.changes = ctypes.c_uint32.in_dll(library, "oracle_changes")
        pairs = ctypes.c_uint32 * (2 * _SHOWN_CHANGES)
        self.changed = memoryview(pairs.in_dll(library, "oracle_changed")).cast("B").cast("I")
        self.argument = self._bytes("oracle_argument", _ARGUMENT)
        self.other_argument = self._bytes("oracle_other_argument", _ARGUMENT)
        self.signals = self._bytes("oracle_signals", 64 * 3 * 4).cast("I")
        self.other_signals = ctypes.c_void_p.in_dll(library, "oracle_other_signals")
        self._result = ctypes.c_long.in_dll(library, "oracle_result")

    @property
    def result(self) -> int:
        """What the last step's result was on Xen."""
        return self._result.value

    def ports(self, domain: int) -> set[int]:
        """All ports that were ever bound, those beside them, and where the table ends."""
        end = int(self._valid(domain))
        return {*range(self._highest(domain) + 2), end - 1, end}

    def crash(self) -> Crashed:
        said = (ctypes.c_char * 256).in_dll(self._library, "shim_crash")
        return Crashed(f"Xen would crash: {said.value.decode()}")

    def _bytes(self, name: str, size: int) -> memoryview:
        return memoryview((ctypes.c_ubyte * size).in_dll(self._library, name)).cast("B")


class Xen(World):
    """Domains whose event channels are Xen's own code. Making another forgets these."""

    def __init__(self, library: Library, domains: Sequence[Domain], frames: int) -> None:
        self.library = library
        library.begin()
        self._pages: list[list[memoryview]] = []
        for number, domain in enumerate(domains):
            vcpus, highest, delivery = domain
            library.domain(vcpus, highest, _DELIVERIES[delivery], frames)
            pages = [_page(library.page(number, page)) for page in range(1 + frames)]
            self._pages.append(pages)
        self._listened: dict[int, list[int]] = {}

    # As a World

    @property
    def signals(self) -> Sequence[int]:
        return self.library.signals

    def memory(self, domain: int) -> Sequence[Buffer]:
        return self._pages[domain]

    def event_channel_op(self, domain: int, vcpu: int, command: int, argument: bytearray) -> int:
        size = len(argument)
        result = self._do(Kind.EVENT_CHANNEL_OP, domain, vcpu, command, bytes(argument))
        argument[:] = self.library.argument[:size]
        return result

    def poll(self, domain: int, vcpu: int, ports: Sequence[int]) -> int:
        data = b"".join([port.to_bytes(4, "little") for port in ports[:8]])
        return self._do(Kind.POLL, domain, vcpu, len(ports), data)

    def block(self, domain: int, vcpu: int) -> int:
        return self._do(Kind.BLOCK, domain, vcpu)

    def interrupts(self, domain: int, vcpu: int, enabled: bool) -> None:
        self._do(Kind.INTERRUPTS, domain, vcpu, enabled)

    def acknowledge(self, domain: int, vcpu: int) -> None:
        self._do(Kind.CONSUME, domain, vcpu)

    def wake(self, domain: int, vcpu: int) -> None:
        self._do(Kind.WAKE, domain, vcpu)

    def raise_virq(self, domain: int, vcpu: int, virq: int) -> None:
        self._do(Kind.RAISE_VIRQ, domain, vcpu, virq)

    def raise_global_virq(self, virq: int) -> None:
        self._do(Kind.RAISE_GLOBAL_VIRQ, 0, 0, virq)

    def handle_virq(self, domain: int, virq: int) -> int:
        return self._do(Kind.HANDLE_VIRQ, domain, 0, virq)

    def raise_pirq(self, domain: int, pirq: int) -> None:
        self._do(Kind.RAISE_PIRQ, domain, 0, pirq)

    def listen(self, domain: int, vcpu: int, remote: int) -> int:
        port = self._do(Kind.LISTEN, domain, vcpu, remote)
        if port > 0:
            self._listened.setdefault(domain, []).append(port)
        return port

    def notify(self, domain: int, port: int) -> None:
        self._do(Kind.NOTIFY, domain, 0, self._listened[domain].index(port))

    def silence(self, domain: int, port: int) -> None:
        self._do(Kind.SILENCE, domain, 0, self._listened[domain].index(port))
        self._listened[domain].remove(port)

    def pause(self, domain: int) -> None:
        self._do(Kind.PAUSE, domain, 0)

    def unpause(self, domain: int) -> None:
        self._do(Kind.UNPAUSE, domain, 0)

    def suspend(self, domain: int) -> None:
        self._do(Kind.SUSPEND, domain, 0)
        self._listened.pop(domain, None)

    def destroy(self, domain: int) -> None:
        self._do(Kind.DESTROY, domain, 0)

    def _do(self, kind: Kind, domain: int, vcpu: int, number: int = 0, data: bytes = b"") -> int:
        result = self.library.perform(encoded([Step(kind, domain, vcpu, number, data)]))
        if result == _CRASHED:
            raise self.library.crash()
        return int(result)

    # As a witness

    def watch(self, other: World, domains: int) -> None:
        """Compare with another World from now on, whose memory this one writes to as well."""
        for domain in range(domains):
            for number, page in enumerate(other.memory(domain)):
                assert len(page) == PAGE_SIZE, f"page {number} of domain {domain}: {len(page)}"
                self.library.compare_with(domain, number, _address(page))
        self.library.other_signals.value = _address(other.signals)  # type: ignore[arg-type]


def copied(library: Path, folder: Path) -> Library:
    """The same library once more, with a state of its own."""
    return Library(Path(shutil.copy(library, folder / f"copy-of-{library.name}")))


def _function(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype = result
    function.argtypes = arguments
    return function


def _page(address: int) -> memoryview:
    return memoryview((ctypes.c_ubyte * PAGE_SIZE).from_address(address)).cast("B")


def _address(buffer: Buffer) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
