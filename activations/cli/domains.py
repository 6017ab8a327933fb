"""Which domains there are, as dom0 reads it in xenstore: by name and by number."""

from __future__ import annotations

from contextlib import suppress

from activations.abi.xenstore_paths import HOMES
from activations.domain import Domain
from activations.errors import ActivationsError
from activations.store import Store, StoreError


class NoSuchDomain(ActivationsError):
    """There is no domain of this name or number."""


async def names_in(store: Store) -> dict[int, str]:
    """The names of all domains, by domid."""
    names: dict[int, str] = {}
    for each in await store.list(HOMES):
        with suppress(StoreError):  # it went away
            names[int(each)] = await store.read(f"{HOMES}/{each}/name")
    return names


async def domid_of(xen: Domain, guest: str) -> int:
    """The domain of this name, or of this number. Raises `NoSuchDomain`, which names those there
    are."""
    names = await names_in(xen.store)
    if guest.isdecimal() and int(guest) in names:
        return int(guest)
    for domid, name in names.items():
        if name == guest:
            return domid
    known = ", ".join(f"{name} ({domid})" for domid, name in sorted(names.items()))
    raise NoSuchDomain(f"no domain {guest!r} runs here; there are: {known}")
