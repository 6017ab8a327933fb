"""Xen's own xenstored as a World."""

from __future__ import annotations

import _ctypes
import ctypes
import struct
from pathlib import Path
from typing import Any

from activations.abi.xs_wire import HEADER, MessageType

from .world import PAGE_SIZE, Crashed, Limits, Node, World

_ABSENT, _RUNNING, _SHUT_DOWN = range(3)
_ROOM = 1 << 20
_CONTROLLER = 63
"""The client that asks what a domain has; no program's."""


class Stored(World):
    """The library loaded anew, and so a xenstored that has just started. `close` unloads it."""

    def __init__(self, path: Path, limits: Limits) -> None:
        library = self._library = ctypes.CDLL(str(path))
        self._ask = _function(library.stored_ask, _BOOL, _UINT, _BYTES, _SIZE, _BOOL)
        self._take = _function(library.stored_take, ctypes.c_long, _UINT, ctypes.c_void_p, _SIZE)
        self._kick = _function(library.stored_kick, _BOOL, _UINT)
        self._page = _function(library.stored_page, ctypes.c_void_p, _UINT)
        self._domain = _function(library.stored_domain, _BOOL, _UINT, _UINT)
        self._connect = _function(library.stored_connect, _BOOL, _UINT)
        self._is_open = _function(library.stored_is_open, _BOOL, _UINT)
        self.is_reading = _function(library.stored_is_reading, _BOOL)
        self.next = _function(library.stored_next, ctypes.c_int, ctypes.c_int)
        self._tree = _function(library.stored_tree, _SIZE, ctypes.c_void_p)
        self._buffer = ctypes.create_string_buffer(_ROOM)
        self._clients = 0
        self._controlled = False
        self._pages: dict[int, memoryview] = {}
        words = [word.encode() for word in _options(limits)]
        self._arguments = (ctypes.c_char_p * (len(words) + 1))(*words, None)
        begin = _function(library.stored_begin, _BOOL, ctypes.c_int, ctypes.c_void_p)
        self._check(begin(len(words), self._arguments))

    def close(self) -> None:
        _ctypes.dlclose(self._library._handle)

    def connect(self) -> None:
        self._check(self._connect(self._clients))
        self._clients += 1

    def ask(self, client: int, data: bytes) -> None:
        self._check(self._ask(client, data, len(data), False))

    def leave(self, client: int, data: bytes) -> None:
        self._check(self._ask(client, data, len(data), True))

    def take(self, client: int) -> bytes:
        size = self._take(client, self._buffer, _ROOM)
        self._check(size >= 0)
        return self._buffer[:size]

    def create(self, domid: int) -> None:
        self._check(self._domain(domid, _RUNNING))

    def shut_down(self, domid: int) -> None:
        self._check(self._domain(domid, _SHUT_DOWN))
        self._check(self._domain(domid, _RUNNING))  # it is seen once

    def destroy(self, domid: int) -> None:
        self._check(self._domain(domid, _ABSENT))

    def page(self, domid: int) -> memoryview | None:
        if not (address := self._page(domid)):
            return None
        if domid not in self._pages:
            page = (ctypes.c_ubyte * PAGE_SIZE).from_address(address)
            self._pages[domid] = memoryview(page).cast("B")
        return self._pages[domid]

    def kick(self, domid: int) -> None:
        self._check(self._kick(domid))

    def tree(self) -> list[Node]:
        data, at = self._buffer[: self._tree(self._buffer)], 0
        fields: list[bytes] = []
        while at < len(data):
            (size,) = struct.unpack_from("<I", data, at)
            fields.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        return [
            Node(path, int.from_bytes(generation, "little"), *others)
            for path, generation, *others in zip(*[iter(fields)] * 5, strict=True)
        ]

    def gone(self, client: int) -> bool:
        return not self._is_open(client)

    def account(self, domid: int) -> str:
        if not self._controlled:
            self._check(self._connect(_CONTROLLER))
            self._controlled = True
        payload = b"quota\0%d\0" % domid
        request = HEADER.pack(MessageType.CONTROL, 0, 0, len(payload)) + payload
        self._check(self._ask(_CONTROLLER, request, len(request), False))
        said = self.take(_CONTROLLER)[HEADER.size :].decode().replace("\0", "")
        told = dict(map(str.split, said.replace(":", " ").splitlines()[1:]))
        names = ("nodes", "watches", "transactions", "outstanding")
        return " ".join(f"{name} {told[name]}" for name in names)

    def _check(self, fine: bool) -> None:
        if not fine:
            said = (ctypes.c_char * 256).in_dll(self._library, "stored_crash")
            raise Crashed(f"Xen's xenstored would end: {said.value.decode(errors='replace')}")


_BOOL, _UINT, _SIZE, _BYTES = ctypes.c_bool, ctypes.c_uint, ctypes.c_size_t, ctypes.c_char_p


def _options(limits: Limits) -> list[str]:
    """What it is started with: no limit that goes by the clock or by bytes of its own memory."""
    nodes, size, permissions, watches, transactions, seen, outstanding = map(str, limits)
    quotas = ["-E", nodes, "-S", size, "-A", permissions, "-W", watches, "-t", transactions]
    more = ["-Q", f"transaction-nodes={seen}", "-Q", f"outstanding={outstanding}"]
    return ["xenstored", "-N", "-w", "watch-event=0", "-Q", "memory=0", *quotas, *more]


def _function(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype = result
    function.argtypes = arguments
    return function
