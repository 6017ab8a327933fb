"""What the lab's image is made of: Debian 12's packages, and what of them is kept.

Names alone: versions are what Debian has when the image is made, and the manifest records them.
Less is faster here, since unpacking the root costs a tenth of a second per 10 MB at every boot.
"""

from __future__ import annotations

import hashlib


def words(text: str) -> tuple[str, ...]:
    """The words of a text: a long list without the quotes."""
    return tuple(text.split())


KERNEL = "linux-image-amd64"
"""Depends on the package of the current kernel."""
XEN = "xen-hypervisor-4.17-amd64"
PYTHON = "python3.11-minimal"
PACKAGES = words("""
    xen-hypervisor-4.17-amd64 xen-utils-4.17 xen-utils-common xenstore-utils libxenmisc4.17
    libxenstore4 libxenevtchn1 libxengnttab1 libxencall1 libxenforeignmemory1 libxendevicemodel1
    libxentoollog1 libxentoolcore1 libxenhypfs1 python3.11-minimal libpython3.11-minimal
    libpython3.11-stdlib libc6 libgcc-s1 zlib1g libexpat1 libffi8 libssl3 libuuid1 liblzma5
    libbz2-1.0 libncursesw6 libtinfo6 libreadline8 libsqlite3-0 libyajl2 liblzo2-2 libzstd1
    libfdt1 libnl-3-200 libnl-route-3-200 e2fsprogs libext2fs2 libcom-err2 libss2 libblkid1
    busybox-static
""")
MODULES = words("""
    virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_console
    virtio_blk loop ext4 mbcache jbd2 crc16 crc32c_generic bridge stp llc tun
    xen-privcmd xen-evtchn xen-gntdev xen-gntalloc xenfs
    xen-blkback xen-blkfront xen-netback xen-netfront
""")
"""The kernel's modules; those that init or the lab loads, and what disks and networks need."""
NOT_NEEDED = words("""
    boot usr/share/doc usr/share/man usr/share/locale usr/share/lintian
    usr/lib/x86_64-linux-gnu/gconv usr/lib/python3.11/lib2to3 usr/lib/python3.11/pydoc_data
    usr/lib/python3.11/distutils usr/lib/python3.11/test usr/lib/xen-4.17/boot
    lib/x86_64-linux-gnu/libmvec.so.1
""")
FOLDERS = words("""
    bb dev lab modules proc root run sys tmp var/log/xen/console var/lib/xen var/lib/xenstored
""")
FILES = words("xen.elf vmlinux vmlinuz root.cpio")
"""What an image consists of: Xen; Linux as Xen starts it, and as a boot loader does; the root."""


def digest() -> str:
    """A name for this recipe: another one makes another image."""
    recipe = repr((KERNEL, PACKAGES, MODULES, NOT_NEEDED, FOLDERS, FILES))
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]
