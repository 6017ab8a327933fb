"""What a driver is to the handshake: what to say, what to make of the answer, when to stop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

from activations.abi.xenbus import XenbusState
from activations.xenbus.keys import Keys

Written: TypeAlias = Mapping[str, str | int]
"""Keys to be written into this end's folder; a `/` in a name makes a folder."""


class Driver(ABC):
    """Either end's. Each method may raise an `ActivationsError` (a bad key, a ring that is broken,
    a grant that is refused): the device is then closed with that reason."""

    writes: ClassVar[Sequence[str]] = ()
    """The names of all keys, and of their folders, that an end of this kind may write in some life,
    as patterns: `ring-ref*`, `queue-*`. What an earlier life left of them goes when the next one
    begins, be that another driver's; keys of the toolstack's stay."""

    @abstractmethod
    async def serve(self) -> None:
        """Work, from the time the ends are connected; cancelled when they part. Ends by itself
        only by raising: `GenerationEnded` after a suspend ends this connection alone."""

    @abstractmethod
    async def disconnect(self) -> None:
        """Give rings, pages and ports back. Called once after each attempt to connect, however far
        it got, and never cancelled."""


class FrontDriver(Driver):
    """A front end's."""

    published = XenbusState.INITIALISED
    """What the front end's state is once its keys are there."""

    @abstractmethod
    async def publish(self, back: Keys) -> Written:
        """The back end offers: take what it can do, make rings and ports; the keys that say so."""

    @abstractmethod
    async def connect(self, back: Keys) -> None:
        """The back end is connected: take what it says now, such as a disk's size."""

    async def reconfigure(self, back: Keys) -> None:
        """The back end changed its keys while in use: a disk was resized."""


class BackDriver(Driver):
    """A back end's."""

    @abstractmethod
    async def offer(self) -> Written:
        """What this back end can do."""

    @abstractmethod
    async def connect(self, front: Keys) -> Written:
        """The front end's keys are there: map its rings, bind its ports; what else to say, such as
        a disk's size."""
