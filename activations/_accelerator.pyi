from asyncio import AbstractEventLoop, Handle
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from activations.lower import Ready
from activations.port import Port
from activations.timers import SleepQueue

SOURCE: str
"""CRC-32 of the file in C that it was made from, in hexadecimal."""

def fence() -> None: ...

class Turn:
    closed: bool

    def __init__(
        self,
        loop: AbstractEventLoop,
        sleepers: SleepQueue,
        ports: dict[int, Port],
        ready: deque[Handle],
        port_type: type[Port],
        report: Callable[[Handle, BaseException], object],
        plain_call_soon: Callable[..., Handle],
        block: Callable[[int | None], Ready | None],
        poll: Callable[[], Ready | None],
        demux: Callable[[], Sequence[int]],
        unmask: Callable[[Sequence[int]], None],
        time_ns: Callable[[], int],
    ) -> None: ...
    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle: ...
    def run_once(self) -> None: ...

class Announce:
    def __init__(
        self,
        cpu: Any,
        polling: dict[int, Any],
        bit: int,
        queue: deque[Any],
        vcpu: int,
        shared_info: bytearray,
    ) -> None: ...
    def __call__(self) -> None: ...

class Send:
    def __init__(
        self, sender: Any, channel_type: type, ops_type: type, plain: Callable[[int], None]
    ) -> None: ...
    def send(self, port: int, /) -> None: ...

class Fused:
    def __init__(
        self,
        taken: list[int],
        plain_unmask: Callable[[Sequence[int]], None],
        shared_info: bytearray,
    ) -> None: ...
    def demux(self) -> Sequence[int]: ...
    def unmask(self, ports: Sequence[int], /) -> None: ...
