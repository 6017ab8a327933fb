"""The lab's image: Xen, a Linux kernel, and one root that serves dom0 and guests alike.

Made once from Debian's packages and kept in the cache folder, in a folder named after the recipe.
A manifest records the packages' versions and each file's size and hash: sizes are compared at
every use, hashes when asked. Debian replaces its packages, so none is pinned: what is current
when the image is made is taken and recorded. The image is built aside and renamed into place
under a lock, so that neither a crash nor a second process leaves half of one.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from activations.errors import BackendError
from xen_lab import cpio, kernel, packages, recipe
from xen_lab.manifest import Damaged, Manifest
from xen_lab.process import end_with_parent

Progress = Callable[[str], None]

NEEDED = 700 << 20
"""Bytes of disk while an image is made; 200 MB stay."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the cache."""

    folder: Path
    versions: dict[str, str]
    """Debian's version of every package in it."""

    @property
    def xen_version(self) -> str:
        """Xen's version as Debian names it, as `4.17.5`."""
        return self.versions[recipe.XEN].partition("+")[0]

    @property
    def linux_package(self) -> str:
        """The name of the kernel's package, which is its release."""
        return next(name for name in self.versions if name.startswith("linux-image-"))

    @property
    def xen(self) -> Path:
        return self.folder / "xen.elf"

    @property
    def linux(self) -> Path:
        return self.folder / "vmlinux"

    @property
    def root(self) -> Path:
        return self.folder / "root.cpio"


def cache_folder() -> Path:
    """Where images are kept: `$XDG_CACHE_HOME/activations/lab`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "activations" / "lab"


def cached(cache: Path | None = None) -> Image | None:
    """The image that is there and whole in size, or None; changes nothing."""
    folder = _folder(cache or cache_folder())
    try:
        return Image(folder, Manifest.check(folder).packages)
    except Damaged:
        return None


def ensure(
    progress: Progress = lambda text: None,
    *,
    cache: Path | None = None,
    refresh: bool = False,
    verify: bool = False,
) -> Image:
    """The image, made now if it is not there.

    `refresh` makes it anew from the packages Debian has now; `verify` reads every file to compare
    its hash. An image that turns out to be damaged is made anew, and `progress` hears of it.
    Raises `BackendError` when it cannot be made.
    """
    cache = cache or cache_folder()
    folder = _folder(cache)
    with locked(cache):
        if not refresh and folder.exists():
            try:
                return Image(folder, Manifest.check(folder, hashes=verify).packages)
            except Damaged as damage:
                progress(f"the lab's image is damaged ({damage}); making it anew")
        _make(cache, folder, progress)
    return Image(folder, Manifest.check(folder).packages)


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in cache.glob("making-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _folder(cache: Path) -> Path:
    return cache / f"image-{recipe.digest()}"


def _make(cache: Path, folder: Path, progress: Progress) -> None:
    free = shutil.disk_usage(cache).free
    if free < NEEDED:
        raise BackendError(
            f"the lab needs {NEEDED >> 20} MB to make its image and {cache} has {free >> 20} MB "
            "left: free some, or set XDG_CACHE_HOME to a folder with more room"
        )
    with TemporaryDirectory(prefix="making-", dir=cache) as making:
        work = Path(making)
        image = work / "image"
        image.mkdir()
        versions = _build(work, image, cache / "apt", progress)
        Manifest.record(image, versions)
        if folder.exists():
            folder.rename(work / "old")
        image.rename(folder)


def _build(work: Path, image: Path, state: Path, progress: Progress) -> dict[str, str]:
    debs, root, linux = (work / name for name in ("debs", "root", "linux"))
    for made in (debs, root, linux):
        made.mkdir()
    progress("fetching Xen, Linux and Python from Debian's packages (90 MB, once)")
    boot = packages.dependencies(recipe.KERNEL, state)[0]
    fetched = packages.fetch([boot, *recipe.PACKAGES], debs, state)
    progress("making the lab's image")
    for name, package in fetched.items():
        packages.unpack(package, linux if name == boot else root)
    hypervisor = next((root / "boot").glob("xen-*-amd64.gz"))
    (image / "xen.elf").write_bytes(gzip.decompress(hypervisor.read_bytes()))
    bzimage = next((linux / "boot").glob("vmlinuz-*"))
    (image / "vmlinux").write_bytes(kernel.unpack(bzimage.read_bytes()))
    _furnish(root, linux)
    with (image / "root.cpio").open("wb") as out:
        archive = cpio.Writer(out)
        archive.tree(root)
        archive.close()
    return {name: packages.version(package) for name, package in fetched.items()}


def _furnish(root: Path, linux: Path) -> None:
    """Make the unpacked packages a root that boots in little time."""
    for name in recipe.NOT_NEEDED:
        _remove(root / name)
    for name in recipe.FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "usr/bin/python3").symlink_to("python3.11")
    for module in linux.rglob("*.ko"):
        if module.stem in recipe.MODULES:
            shutil.copy(module, root / "modules")
    for applet in _run(root / "bin/busybox", "--list").split():
        (root / "bb" / applet).symlink_to("/bin/busybox")
    _compile(root)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _compile(root: Path) -> None:
    """Compile the standard library with the very Python that will run it.

    `unchecked-hash` files are believed without a look at the source's time.
    """
    libraries = f"{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu"
    _run(
        root / "lib64/ld-linux-x86-64.so.2",
        *("--library-path", libraries, f"{root}/usr/bin/python3.11", "-I", "-m", "compileall"),
        *("-qq", "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/"),
        f"{root}/usr/lib/python3.11",
    )


def _run(program: Path, *arguments: str) -> str:
    try:
        return subprocess.run(
            [str(program), *arguments],
            capture_output=True, text=True, check=True, env={}, preexec_fn=end_with_parent,
        ).stdout
    except OSError as error:
        raise BackendError(
            f"cannot run {program.name} of the lab's own packages ({error}): "
            "the lab is made on x86-64 Linux"
        ) from error
    except subprocess.CalledProcessError as error:
        raise BackendError(f"{program.name}: {error.stderr.strip()[-500:]}") from error
