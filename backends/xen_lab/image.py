"""The lab's image: Xen, a Linux kernel, and one root that serves dom0 and guests alike.

Made once from Debian's packages and kept in the cache folder, in a folder named after the recipe.
Debian replaces its packages, so none is pinned: what is current when the image is made is taken
and recorded in the manifest.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from activations.errors import BackendError
from xen_lab import cache, cpio, kernel, packages, recipe
from xen_lab.emulator import LINKER
from xen_lab.process import end_with_parent

PREFIX = "image-"


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
    def packed_linux(self) -> Path:
        """The same kernel as Debian packs it, a bzImage: what a boot loader starts."""
        return self.folder / "vmlinuz"

    @property
    def root(self) -> Path:
        return self.folder / "root.cpio"


def cached(folder: Path) -> Image | None:
    """The image in a cache folder if it is there and whole in size; changes nothing."""
    manifest = cache.peek(where(folder))
    return Image(where(folder), manifest.packages) if manifest else None


def ensure(
    progress: cache.Progress, folder: Path, *, refresh: bool = False, verify: bool = False
) -> Image:
    """The image in a cache folder, made now if it is not there: see `cache.keep`.

    `refresh` makes it anew from the packages Debian has now.
    """
    build = partial(_build, progress, folder / "apt", refresh)
    manifest = cache.keep(where(folder), build, progress, refresh=refresh, verify=verify)
    return Image(where(folder), manifest.packages)


def newest(folder: Path) -> dict[str, str]:
    """The versions of the packages that an image made now would hold."""
    state = folder / "apt"
    boot = packages.dependencies(recipe.KERNEL, state, fresh=True)[0]
    return packages.newest([boot, *recipe.PACKAGES], state)


def where(folder: Path) -> Path:
    """Its place in a cache folder; each version of the recipe has its own."""
    return folder / f"{PREFIX}{recipe.digest()}"


def _build(
    progress: cache.Progress, state: Path, fresh: bool, work: Path, image: Path
) -> dict[str, str]:
    debs, root, linux = (work / name for name in ("debs", "root", "linux"))
    for made in (debs, root, linux):
        made.mkdir()
    progress("fetching Xen, Linux and Python from Debian's packages (90 MB, once)")
    boot = packages.dependencies(recipe.KERNEL, state, fresh=fresh)[0]
    fetched = packages.fetch([boot, *recipe.PACKAGES], debs, state, fresh=fresh)
    progress("making the lab's image")
    for name, package in fetched.items():
        packages.unpack(package, linux if name == boot else root)
    hypervisor = next((root / "boot").glob("xen-*-amd64.gz"))
    (image / "xen.elf").write_bytes(gzip.decompress(hypervisor.read_bytes()))
    bzimage = next((linux / "boot").glob("vmlinuz-*"))
    (image / "vmlinux").write_bytes(kernel.unpack(bzimage.read_bytes()))
    shutil.copyfile(bzimage, image / "vmlinuz")
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
        root / LINKER,
        *("--library-path", libraries, f"{root}/usr/bin/python3.11", "-I", "-m", "compileall"),
        *("-qq", "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/"),
        f"{root}/usr/lib/python3.11",
    )


def _run(program: Path, *arguments: str) -> str:
    try:
        return subprocess.run(
            [str(program), *arguments],
            capture_output=True,
            text=True,
            check=True,
            env={},
            preexec_fn=end_with_parent,
        ).stdout
    except OSError as error:
        raise BackendError(
            f"cannot run {program.name} of the lab's own packages ({error}): "
            "the lab is made on x86-64 Linux"
        ) from error
    except subprocess.CalledProcessError as error:
        raise BackendError(f"{program.name}: {error.stderr.strip()[-500:]}") from error
