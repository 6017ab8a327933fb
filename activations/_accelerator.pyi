from asyncio import AbstractEventLoop, Handle
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from activations.lower import LowerHalf, Ready
from activations.port import Port
from activations.timers import SleepQueue

SOURCE: str
"""SHA-256 of the file in C that it was made from."""

class Turn:
    closed: bool

    def __init__(
        self,
        loop: AbstractEventLoop,
        lower: LowerHalf,
        sleepers: SleepQueue,
        ports: dict[int, Port],
        ready: deque[Handle],
        port_type: type[Port],
        report: Callable[[Handle, BaseException], object],
        plain_call_soon: Callable[..., Handle],
    ) -> None: ...
    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle: ...
    def run_once(self) -> None: ...

class Announce:
    def __init__(
        self,
        cpu: Any,
        shared_info: bytearray,
        polling: dict[int, Any],
        bit: int,
        vcpu: int,
        queue: deque[Any],
    ) -> None: ...
    def __call__(self) -> None: ...

class Send:
    def __init__(
        self, sender: Any, channel_type: type, ops_type: type, plain: Callable[[int], None]
    ) -> None: ...
    def __call__(self, port: int, /) -> None: ...

class Fused:
    def __init__(
        self,
        kernel: Any,
        cpu: Any,
        scheduler: Any,
        shared_info: bytearray,
        taken: list[int],
        upcall: int,
        state_type: type,
    ) -> None: ...
    def demux(self) -> Sequence[int]: ...
    def unmask(self, ports: Sequence[int], /) -> None: ...
    def block(self, deadline: int | None, /) -> Ready | None: ...
