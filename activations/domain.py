"""What code sees of the domain it runs in: its events, its grants, its store."""

from __future__ import annotations

import asyncio
import warnings
from errno import EACCES
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import ref

from activations import logs
from activations.abi.xenstore_paths import HOMES
from activations.errors import ActivationsError, LeakWarning
from activations.events import Events
from activations.grants import Grants
from activations.store import Store, StoreError

if TYPE_CHECKING:
    from activations.lower import LowerHalf


class Domain:
    """The domain a loop serves; every scenario's half is called with its own.

    Ports, grants and the store's connection belong to it, and `close()` ends them. Of ports and
    grants it says so with a `LeakWarning`: those who opened them should have.
    """

    def __init__(self, lower: LowerHalf, loop: asyncio.AbstractEventLoop) -> None:
        self.domid: int = lower.domid
        self.name: str = lower.name
        self.clock = lower.clock
        """`virtual`, which jumps over idle time, or `wall`."""
        self._loop = ref(loop)
        self.generation: int = 0
        """How often the domain was suspended and resumed. Ports are of one generation."""
        self.events: Events = Events(lower, self._loop)
        self.grants: Grants = Grants(lower.grant_table)
        self._lower = lower
        self._store: Store | None = None

    def __repr__(self) -> str:
        return f"<Domain {self.domid} {self.name!r}>"

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that serves it. A domain does not keep it alive: a closed loop to which no other
        reference is left is freed at once. Raises `RuntimeError` from then on."""
        loop = self._loop()
        if loop is None:
            raise RuntimeError(f"the event loop of {self!r} is gone: keep the loop itself")
        return loop

    @cached_property
    def log(self) -> Any:
        """A structlog logger with the domain bound."""
        return logs.logger(domain=self.name)

    @property
    def store(self) -> Store:
        """This domain's connection to xenstored, made at its first use; and made anew, without the
        watches and transactions of before, once that one is gone (`Store.gone`)."""
        if self._store is None or self._store.gone:
            connection = self._lower.open_store(self.events._adopt)
            self._store = Store(connection, owner=f"domain {self.domid}")
        return self._store

    def time_ns(self) -> int:
        """The loop's clock: monotonic nanoseconds."""
        return self._lower.time_ns()

    async def find(self, name: str) -> int:
        """The domid of the domain of this name; waits until there is one.

        Reads the names in xenstore, as `xl domid` does. `dom0` is domain 0, whatever it calls
        itself. Only dom0 may read the names of others: to a guest it writes the numbers that the
        guest has to know. Raises `StoreError` (EACCES) in one that asks all the same.
        """
        if name == "dom0":
            return 0
        store = self.store
        async with store.watch(HOMES) as changes:
            async for path in changes:
                if path == HOMES:
                    candidates = await _homes(store)
                elif path.endswith("/name"):
                    candidates = [path.split("/")[3]]
                else:
                    continue
                for domid in candidates:
                    try:
                        if await store.read(f"{HOMES}/{domid}/name") == name:
                            return int(domid)
                    except OSError:
                        continue  # it went away, or has no name yet
        raise ActivationsError(f"xenstore's watch ended before a domain {name!r} appeared")

    def _new_generation(self) -> None:
        """The domain was suspended and resumed: ports and the store's connection are gone. Those
        who wait are told `GenerationEnded`; the store is connected anew at its next use. The
        domid may be another one."""
        self.generation += 1
        self.domid = self._lower.domid
        self.events._new_generation()
        self._close_store("the domain was suspended")

    def leaks(self) -> list[str]:
        """Ports and grants that a program has open still, each in words."""
        return [repr(port) for port in self.events.ports.values()] + [
            repr(grant) for grant in self.grants.open
        ]

    def close(self) -> None:
        """Close the store, then every port and grant that is left; warn of each of those, now that
        all are closed: a warning may be an error.

        A grant that the peer still maps may be impossible to close (`Grant.close`): that error is
        raised, after the warnings.
        """
        self._close_store("the domain has ended")
        leaks = self.leaks()
        for port in list(self.events.ports.values()):
            port.close()
        try:
            self.grants.close()
        finally:
            for leak in leaks:
                said = f"{self!r} ended with {leak}: close() it, or hold it in a `with` block"
                warnings.warn(LeakWarning(said), stacklevel=2)

    def _close_store(self, why: str) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close(why)


async def _homes(store: Store) -> list[str]:
    """The domids of all domains, as xenstore has them."""
    try:
        return await store.list(HOMES)
    except StoreError as error:
        if error.errno != EACCES:
            raise
        hint = "only dom0 may look domains up; have it write the number into this one's data"
        raise StoreError(EACCES, error.kind, error.path, hint=hint) from None


def current() -> Domain:
    """The domain whose loop is running. Raises `RuntimeError` outside an activations loop."""
    domain = getattr(asyncio.get_running_loop(), "domain", None)
    if not isinstance(domain, Domain):
        raise RuntimeError("this event loop serves no Xen domain: see activations.run()")
    return domain
