"""What is kept in the cache: to be seen, brought up to date, and freed.

Nothing here touches what a running lab uses, nor files that are not of the lab's making.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from activations.backend import Kept
from xen_lab import cache, emulator, image, recipe

APT = "apt"
TOLD = {"Xen": recipe.XEN, "Linux": "linux-image-", "Python": recipe.PYTHON}
"""How the names of the packages begin that say most about an image."""


def kept(folder: Path) -> list[Kept]:
    """What is in a cache folder; changes nothing."""
    return sorted(_found(folder), key=lambda each: (not each.needed, each.path))


def clean(folder: Path, *, old: bool = False) -> list[Kept]:
    """Remove what is kept, or only what the next run would not use; give what was removed.

    Raises `BackendError` if a lab runs from it.
    """
    removed = [each for each in kept(folder) if not (old and each.needed)]
    if removed:
        with cache.unused(folder):
            cache.remove(folder, (each.path for each in removed))
    return removed


def refresh(progress: cache.Progress, folder: Path) -> list[str]:
    """Have what Debian has now; give a line for each package that changed, none if none did.

    Raises `BackendError` if a lab runs from it, or Debian cannot be asked.
    """
    with cache.unused(folder):
        progress("asking Debian for newer packages")
        changes = _renew(
            image.where(folder),
            image.newest(folder),
            lambda: image.ensure(progress, folder, refresh=True),
        )
        if emulator.where(folder).exists():
            changes += _renew(
                emulator.where(folder),
                emulator.newest(folder),
                lambda: emulator.keep(progress, folder, refresh=True),
            )
    return changes


def _renew(place: Path, newest: Mapping[str, str], make: Callable[[], object]) -> list[str]:
    """Make something anew if there are newer packages for it, or if it is damaged or missing."""
    manifest = cache.peek(place)
    before = manifest.packages if manifest else {}
    if before != newest:
        make()
    return [
        _change(name, before, newest)
        for name in sorted(before.keys() | newest)
        if before.get(name) != newest.get(name)
    ]


def _change(name: str, before: Mapping[str, str], newest: Mapping[str, str]) -> str:
    if name not in before:
        return f"{name} {newest[name]}"
    return f"{name} {before[name]} -> {newest.get(name, 'left out')}"


def _found(folder: Path) -> Iterator[Kept]:
    places = sorted(folder.iterdir()) if folder.is_dir() else []
    for place in places:
        if place.name.startswith(image.PREFIX):
            yield _image(folder, place)
        elif place == emulator.where(folder):
            yield _emulator(folder, place)
        elif place.name == APT:
            yield Kept("Debian's package lists", place, _size(place), needed=False)
        elif place.name.startswith(cache.MAKING):
            what = "in the making, or left by a crash"
            yield Kept(what, place, _size(place), needed=False)


def _image(folder: Path, place: Path) -> Kept:
    manifest = cache.peek(place)
    if manifest is None:
        return Kept("damaged image", place, _size(place), needed=False)
    said = ", ".join(
        f"{what} {re.split('[+-]', version)[0]}"
        for what, beginning in TOLD.items()
        for name, version in manifest.packages.items()
        if name.startswith(beginning)
    )
    if place == image.where(folder):
        return Kept("image", place, _size(place), said)
    return Kept("image of another version", place, _size(place), said, needed=False)


def _emulator(folder: Path, place: Path) -> Kept:
    found = emulator.fetched(folder)
    if found is None:
        return Kept("damaged QEMU", place, _size(place), needed=False)
    here = emulator.installed()
    needed = here is None or not emulator.serves(here.version())
    said = found.version() if needed else f"{found.version()}; the installed one serves"
    return Kept("QEMU", place, _size(place), said, needed=needed)


def _size(place: Path) -> int:
    """Bytes of disk that a folder takes, as far as it stays while we look."""
    size = 0
    for folder, _, names in os.walk(place):
        for name in ("", *names):
            with suppress(OSError):
                size += os.lstat(Path(folder, name)).st_blocks * 512
    return size
