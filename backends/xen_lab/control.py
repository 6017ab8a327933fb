"""The host's end of the control channel: requests out, answers and output in.

One thread, no callbacks from elsewhere: the caller that waits reads the channel and hands each
message to the request it belongs to. A domain's console lines are kept, the last of them, for error
texts.
"""

from __future__ import annotations

import itertools
import select
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from activations.errors import BackendError
from xen_lab.inside.channel import Decoder, Message, encode, unpack
from xen_lab.machine import Machine
from xen_lab.pace import Pace, granted

READ = 256 << 10
TAIL = 60
"""Console lines kept of each guest."""
PANIC = "Kernel panic - not syncing"

Stream = Callable[[str, bytes], None]
"""Called with the stream's name and a piece of what was written to it."""


class Request:
    """Something a domain was asked to do."""

    def __init__(self, number: int, domain: str, stream: Stream | None) -> None:
        self.number = number
        self.domain = domain
        self.stream = stream
        self.answer: Message | None = None
        """The last message about it: `done`, `error` or `exit`; `gone` if its domain went."""


class Control:
    """Speaks with the agents of all domains."""

    def __init__(self, machine: Machine, pace: Pace) -> None:
        self.pace = pace
        self._machine = machine
        self._decoder = Decoder()
        self._numbers = itertools.count(1)
        self._open: dict[int, Request] = {}
        self._tails: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=TAIL))
        self.hellos: dict[str, dict[str, Any]] = {}
        """The facts each agent told when it came up, by its domain's label."""
        self.gone: set[str] = set()
        """Guests that crashed or were destroyed."""

    def ask(self, domain: str, do: str, *, stream: Stream | None = None, **words: Any) -> Request:
        """Send a request; `wait` for its answer."""
        request = Request(next(self._numbers), domain, stream)
        if domain in self.gone:
            request.answer = {"is": "gone"}
            return request
        self._open[request.number] = request
        self._send({"id": request.number, "to": domain, "do": do, **words})
        return request

    def call(self, domain: str, do: str, *, timeout: float, **words: Any) -> Message:
        """Ask, and `wait` for the answer. Raises `BackendError` if it went wrong."""
        request = self.ask(domain, do, **words)
        if not self.wait(lambda: request.answer is not None, timeout):
            self.forget(request)
            raise BackendError(
                self.explain(domain, f"no answer to {do} {self.pace.within(timeout)}")
            )
        return self.result(request)

    def result(self, request: Request) -> Message:
        """A request's answer. Raises `BackendError` for `error` and `gone`."""
        answer = request.answer
        assert answer is not None
        if answer["is"] == "gone":
            raise BackendError(self.explain(request.domain, "the domain is gone"))
        if answer["is"] == "error":
            raise BackendError(f"{request.domain}: {answer['text']}")
        return answer

    def forget(self, request: Request) -> None:
        """This answer is not waited for any more."""
        self._open.pop(request.number, None)

    def wait(self, done: Callable[[], bool], timeout: float | None) -> bool:
        """Read the channel until `done()`; false after `timeout` seconds at the lab's pace.

        Raises `BackendError` if the machine ends meanwhile.
        """
        patience = None if timeout is None else self.pace.patience(timeout)
        return self._wait(done, patience, time.monotonic)

    def wait_for_boot(self, timeout: float) -> bool:
        """Read the channel until dom0 answers; false if it has had `timeout` seconds for it in
        which the host had a processor for it."""
        return self._wait(
            lambda: "dom0" in self.hellos, timeout, partial(granted, self._machine.pid)
        )

    def _wait(
        self, done: Callable[[], bool], timeout: float | None, clock: Callable[[], float]
    ) -> bool:
        deadline = None if timeout is None else clock() + timeout
        while not done():
            left = None if deadline is None else deadline - clock()
            if left is not None and left <= 0:
                return False
            self.read(left)
        return True

    def fileno(self) -> int:
        """For `select`: readable when there is something to `read`."""
        return self._machine.channel.fileno()

    def read(self, timeout: float | None) -> None:
        """Take what has come, waiting at most `timeout` seconds for it."""
        if select.select([self], [], [], timeout)[0]:
            self._receive()

    def explain(self, domain: str, what: str) -> str:
        """An error text that ends with the domain's last console lines."""
        tail = "\n".join(self._tails[domain]) or self._machine.console()
        return f"{domain}: {what}; its console ended with:\n{tail}"

    def _send(self, message: Message) -> None:
        """Write it, reading meanwhile: the agent may be busy writing to us."""
        channel, left = self._machine.channel, memoryview(encode(message))
        while left:
            ready, writable, _ = select.select([channel], [channel], [])
            if ready:
                self._receive()
            if writable:
                try:
                    left = left[channel.send(left) :]
                except BlockingIOError:
                    pass
                except OSError as error:
                    raise self._ended() from error

    def _receive(self) -> None:
        try:
            data = self._machine.channel.recv(READ)
        except OSError as error:
            raise self._ended() from error
        if not data:
            raise self._ended()
        for message in self._decoder.feed(data):
            if isinstance(message, dict):
                self._take(message)

    def _ended(self) -> BackendError:
        return BackendError(
            f"the emulated machine ended; Xen's console ended with:\n{self._machine.console()}"
        )

    def _take(self, message: Message) -> None:
        domain = message.get("from", "dom0")
        match message["is"]:
            case "hello":
                self.hellos[domain] = message["facts"]
            case "noise":
                self._tails[domain].append(message["text"])
                if PANIC in message["text"]:
                    self.lose(domain)
            case "gone":
                self.lose(domain)
            case "stream":
                request = self._open.get(message["id"])
                if request is not None and request.stream is not None:
                    request.stream(message["name"], unpack(message["data"]))
            case _:
                self._answer(self._open.pop(message["id"], None), message)

    def lose(self, domain: str) -> None:
        """It is gone: nothing that it was asked will be answered."""
        self.gone.add(domain)
        for request in [r for r in self._open.values() if r.domain == domain]:
            self._answer(self._open.pop(request.number), {"is": "gone"})

    @staticmethod
    def _answer(request: Request | None, message: Message) -> None:
        if request is not None:
            request.answer = message


def answered(requests: Iterable[Request]) -> bool:
    """Whether all of them have their answer."""
    return all(request.answer is not None for request in requests)
