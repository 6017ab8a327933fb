"""How a device is attached from the command line, whatever kind it is: until told to stop.

The first Ctrl-C asks the guest to let go, the second takes the device away. `kill` asks for ten
seconds, then takes it away; so does whatever else ends the command: a terminal that is closed, an
output whose reader has gone, a fault. No guest is left waiting for a server that is gone.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import activations
from activations.cli.domains import domid_of
from activations.cli.ending import ENDING, status_of, when_told
from activations.cli.output import JsonLines, Reporter, Screen, write
from activations.cli.status import FAILED, WELL
from activations.cli.streams import serving
from activations.domain import Domain
from activations.xenbus import (
    BackDriver,
    BackEnd,
    Device,
    DeviceExists,
    HandshakeTimeout,
    Phase,
    Written,
    plug,
    unplug,
)

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds after which somebody is told why the guest has not taken the device yet, and those that
`kill` gives the guest."""
AT_ONCE = 0.5
"""Seconds for a guest whose disk is taken away."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """What is to be attached."""

    kind: str
    devid: int
    called: str
    """In the guest: `xvdb`."""
    what: str
    """Here: the file's name."""
    driver: Callable[[Device], BackDriver]
    front: Written = field(default_factory=dict)
    back: Written = field(default_factory=dict)
    owned: AsyncExitStack = field(default_factory=AsyncExitStack)
    """What is closed in the end."""
    any_number: bool = False
    """Whether another devid will do, where somebody else was quicker to take this one."""
    counts: bool = False
    """Whether it is said in words, too, what went through the device."""
    care: str = ""
    """What to think of while the guest uses it."""


def served_as(kind: str) -> str:
    """The back end's folder. Not the kind's own: Linux's back end would take the device for one of
    its devices."""
    return f"py{kind}"


Make = Callable[[Domain, int], Awaitable[Attachment]]
"""What to attach to the guest of this domid."""


def perform(guest: str, make: Make, as_json: bool = False, *, backend: str = "linux") -> int:
    """Attach it to the guest, in the domain this process runs in; give the exit status."""
    reporter: Reporter = JsonLines() if as_json else Screen()

    async def main(xen: Domain) -> int:
        return await attach(xen, guest, make, Teller(reporter))

    with serving(sys.stdout if as_json else sys.stderr):
        return status_of(lambda: activations.run(main, backend=backend), reporter)


async def attach(xen: Domain, guest: str, make: Make, teller: Teller) -> int:
    """Attach it, until told to stop; give the exit status."""
    domid = await domid_of(xen, guest)
    while True:
        attachment = await make(xen, domid)
        try:
            return await Session(xen, domid, guest, attachment, teller).run()
        except DeviceExists:
            if not attachment.any_number:
                raise
        finally:
            await attachment.owned.aclose()


class Teller:
    """Says what happens: sentences for people, objects for programs."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._as_json = isinstance(reporter, JsonLines)

    def say(self, event: str, text: str, **details: object) -> None:
        if self._as_json:
            write(json.dumps({"event": event, "text": text, **details}) + "\n")
        else:
            self._reporter.progress(text)

    def failed(self, error: Exception) -> None:
        self._reporter.failed(error)


class Session:
    """One device, from its plugging in to its end."""

    def __init__(
        self, xen: Domain, domid: int, guest: str, attachment: Attachment, teller: Teller
    ) -> None:
        self._xen = xen
        self._guest = guest
        self._attachment = attachment
        self._teller = teller
        self._device = Device(
            attachment.kind, attachment.devid, domid, xen.domid, served_as(attachment.kind)
        )
        self._told: asyncio.Queue[signal.Signals] = asyncio.Queue()

    async def run(self) -> int:
        """The exit status. Raises `ActivationsError` if it cannot be attached at all."""
        xen, device, attachment = self._xen, self._device, self._attachment
        driver = attachment.driver(device)
        with self._signals():
            await plug(xen, device, front=attachment.front, back=attachment.back)
            try:
                async with BackEnd(xen, device, driver) as end:
                    self._say("attached", "plugged in; waits for the guest to take it")
                    return await self._serve(end)
            finally:
                await unplug(xen, device, within=AT_ONCE, force=True)

    def tell(self, told: signal.Signals) -> None:
        """Ctrl-C (SIGINT), or one that asks for an end as `kill` does."""
        ENDING.begin()
        self._told.put_nowait(told)

    async def _serve(self, end: BackEnd) -> int:
        try:
            told = await self._unless_told(self._follow(end))
            if told is None:
                return await self._ended(end)
            self._say("asked", "asks the guest to let go; Ctrl-C again takes it away")
            within = None if told is signal.SIGINT else PATIENCE
            if await self._unless_told(unplug(self._xen, self._device, within=within)) is None:
                self._say_counted(end, "detached", "removed")
                return WELL
        except HandshakeTimeout as error:
            self._teller.failed(error)
        except BaseException:
            await unplug(self._xen, self._device, within=AT_ONCE, force=True)
            raise
        await unplug(self._xen, self._device, within=AT_ONCE, force=True)
        self._say_counted(end, "taken away", "taken away: the guest had not let go of it")
        return FAILED

    async def _follow(self, end: BackEnd) -> None:
        """Say how things stand until the device, or its guest, is gone."""
        try:
            await end.reached(Phase.CONNECTED, Phase.CLOSED, Phase.UNPLUGGED, within=PATIENCE)
        except HandshakeTimeout as error:
            self._say("waiting", str(error))
        in_use = False
        async with aclosing(end.phases()) as phases:
            async for phase in phases:
                if phase is Phase.CONNECTED:
                    care = self._attachment.care
                    self._say("connected", f"in use; {care}" if care else "in use")
                elif phase is Phase.FAILED:
                    self._say("failed", f"closed: {end.failure}")
                elif in_use and phase is Phase.CLOSED:
                    self._say_counted(end, "parted", "the guest has let go of it")
                in_use = phase is Phase.CONNECTED or (in_use and phase is not Phase.CLOSED)

    async def _ended(self, end: BackEnd) -> int:
        """The device ended by itself: pulled by the toolstack, or with its guest."""
        await unplug(self._xen, self._device, within=AT_ONCE, force=True)
        self._say_counted(end, "detached", "gone: the guest has ended, or it was unplugged")
        return FAILED if end.failure else WELL

    async def _unless_told(self, work: Coroutine[Any, Any, None]) -> signal.Signals | None:
        """Do this; the signal if one came first, and the work was given up."""
        doing = asyncio.create_task(work)
        telling = asyncio.create_task(self._told.get())
        try:
            await asyncio.wait((doing, telling), return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                doing.result()
                return None
            return telling.result()
        finally:
            for task in (doing, telling):
                task.cancel()
            await asyncio.gather(doing, telling, return_exceptions=True)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if self._xen.clock == "virtual":  # where no signal can come
            yield
            return
        with when_told(self._xen.loop, self.tell, ctrl_c=True):
            yield

    def _say_counted(self, end: BackEnd, event: str, text: str) -> None:
        counts = statistics(end)
        if counts and self._attachment.counts:
            text += f" ({in_words(counts)})"
        self._say(event, text, **({"statistics": counts} if counts else {}))

    def _say(self, event: str, text: str, **details: object) -> None:
        called, guest = self._attachment.called, self._guest
        self._teller.say(
            event,
            f"{self._attachment.what} as {called} of {guest}: {text}",
            guest=guest,
            domid=self._device.front,
            device=called,
            devid=self._device.devid,
            **details,
        )


def statistics(end: BackEnd) -> dict[str, int]:
    """What the driver counted, if it counts."""
    counts = getattr(end.driver, "statistics", None)
    return asdict(counts()) if counts else {}


def in_words(counts: Mapping[str, int]) -> str:
    """`3 requests, 8 sectors read`; what is 0 is left out."""
    some = [f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count]
    return ", ".join(some) or "nothing went through it"
