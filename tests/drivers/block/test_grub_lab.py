"""GRUB, a front end of 32 bits that nobody here wrote, boots Linux from a disk that Python serves.

GRUB's image for PVH guests is Debian's, from the package grub-xen-host. It is the guest's kernel:
it reads its configuration, Linux and an initramfs from the disk, a page at a time, and lets go of
it. Linux then is the front end of 64 bits that takes the same device.

Its two short forms: a guest boots from a disk that Python serves (`cli/test_attach_lab.py`), and
xen-blkback and our own back end serve a front end of 32 bits (`test_blkfront_linux.py`,
`rules/block_ours.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from support.attached import Attached, sh
from support.debian import unpacked

from activations.errors import BackendError
from xen_lab import Lab, cache, image
from xen_lab.machine import LINUX

pytestmark = pytest.mark.lab

HERE = "/tmp/grub"
GRUB = "usr/lib/grub-xen/grub-i386-xen_pvh.bin"
SIZE, PROOF = 16 << 20, 15 << 20
"""Bytes of the disk, and where on it, behind the file system, Linux writes what it was told."""

GUEST = f"""\
name = "booted"
type = "pvh"
memory = 256
vcpus = 1
cpus = "1"
kernel = "{HERE}/grub.bin"
tsc_mode = "native"
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
"""
CONFIGURATION = f"""\
linux /boot/vmlinuz {LINUX} loglevel=2 said=by-grub
initrd /boot/initrd
boot
"""
INIT = f"""\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox insmod /xen-blkfront.ko
until [ -b /dev/xvda ]; do /bin/busybox usleep 20000; done
/bin/busybox cat /proc/cmdline > /said
/bin/busybox dd if=/said of=/dev/xvda bs=4096 seek={PROOF // 4096} conv=sync,fsync 2> /dev/null
/bin/busybox poweroff -f
"""
MAKE_THE_DISK = f"""\
cd {HERE}
mkdir -p small/bin small/dev small/proc root/boot/grub
cp /bin/busybox small/bin/busybox
cp /modules/xen-blkfront.ko small/
cp init small/init; chmod 755 small/init
(cd small; find . | cpio -o -H newc 2> /dev/null) | gzip -1 > root/boot/initrd
mv configuration root/boot/grub/grub.cfg
mv vmlinuz root/boot/vmlinuz
truncate -s {SIZE} disk.img
/sbin/mke2fs -q -t ext2 -b 4096 -d root disk.img {PROOF // 1024}k
rm -r small root
xl create -q -p guest
cat $(xenstore-read /local/domain/$(xl domid booted)/console/tty) > console 2>&1 &
"""

LIVES = ["attached", "connected", "parted", "connected", "parted", "detached"]
"""GRUB's, and Linux's."""


@pytest.fixture(scope="module")
def grub() -> bytes:
    root = unpacked("GRUB on a real Xen", ["grub-xen-host"])
    return (root / GRUB).read_bytes()


@pytest.fixture(scope="module")
def linux(lab_parts: None) -> bytes:
    return image.ensure(print, cache.default()).packed_linux.read_bytes()


@pytest.fixture
def made(lab: Lab, grub: bytes, linux: bytes) -> Iterator[None]:
    """The disk, and the guest, paused; it is gone afterwards."""
    lab.guests({"guest": "pvh"})  # whoever makes guests has loaded what they are made from
    for name, content in {
        "grub.bin": grub,
        "vmlinuz": linux,
        "configuration": CONFIGURATION.encode(),
        "guest": GUEST.encode(),
        "init": INIT.encode(),
    }.items():
        lab.put("dom0", f"{HERE}/{name}", content)
    try:
        sh(lab, "dom0", MAKE_THE_DISK)
        yield
    finally:
        sh(lab, "dom0", f"xl destroy booted 2> /dev/null || true; rm -r {HERE}")


@pytest.mark.long
def test_grub_boots_linux_from_a_disk_served_from_python(
    lab: Lab, linux: bytes, made: None
) -> None:
    began = time.monotonic()
    command = Attached(lab, "block", "booted", f"{HERE}/disk.img")
    sh(lab, "dom0", "xl unpause booted")
    try:
        assert command.ended(timeout=240) == 0
    except BackendError as error:
        console = lab.shell("dom0", ["tail", "-c", "2000", f"{HERE}/console"])[1]
        raise AssertionError(f"{error}\n{command.events()}\n{console}") from None
    print(f"{time.monotonic() - began:.1f} s, at pace {lab.pace:.1f}")
    proof = f"dd if={HERE}/disk.img bs=4096 skip={PROOF // 4096} count=1 2> /dev/null"
    said = sh(lab, "dom0", proof).rstrip("\0")
    assert said.startswith("BOOT_IMAGE=/boot/vmlinuz")
    assert said.endswith("said=by-grub\n")
    events = [event for event in command.events() if event["event"] != "waiting"]
    assert [event["event"] for event in events] == LIVES
    by_grub, in_all = (event["statistics"] for event in events if event["event"] == "parted")
    assert by_grub["sectors_read"] * 512 > len(linux)
    assert (by_grub["sectors_written"], in_all["sectors_written"]) == (0, 8)
    assert in_all["errors"] == 0
