"""The emulated machine: QEMU, software emulation alone, with Xen booted as a multiboot kernel.

Nothing of it is on disk but the image: the initramfs, Xen's console log and the control channel
are anonymous memory and a socket pair, so nothing is left behind however a run ends. QEMU dies
with this process (`PR_SET_PDEATHSIG`), and dom0 switches itself off when the channel closes.
"""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xen_lab.emulator import Qemu
from xen_lab.image import Image
from xen_lab.process import end_with_parent

# SMAP: the PV dom0 dies in an unhandled page fault. RDTSCP: kills a PVH guest. AVX: an illegal
# instruction in a PVH domain. MWAIT: Xen panics when idle. ERMS: with it kernels and the C library
# copy byte by byte, and each is a turn of a loop here.
CPU = "max,-smap,-rdtscp,-xsave,-avx,-avx2,-monitor,-erms"
XEN = "console=com1 com1=115200,8n1 no-real-mode bootscrub=0 loglvl=info guest_loglvl=info"
LINUX = (
    "console=hvc0 panic=-1 rdinit=/init random.trust_cpu=on rootfstype=ramfs "
    "rodata=off cryptomgr.notests apparmor=0 audit=0 mitigations=off nowatchdog "
    "norandmaps clearcpuid=112"
)
"""For dom0 and guests alike. The second line leaves out what costs seconds under emulation:
a check of the page tables, self-tests of the ciphers, and what guards against other users. The
third spares the emulator work: a program is always at the same addresses, so that its code is
translated once and not for each process; and pages are cleared and copied by plain moves, not
by `rep` (112 is X86_FEATURE_REP_GOOD, arch/x86/include/asm/cpufeatures.h), of which each word is
a turn of a loop."""

PARALLEL = ("-accel", "tcg,thread=multi")
COUNTED = ("-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off")

Xenstored = Literal["xenstored", "oxenstored"]
"""The daemon of dom0 that keeps xenstore: Xen's in C, or Xen's in OCaml."""


LENT = "/dev/vdc"
"""The disk that a machine may have beyond the two that its guests are made from. It is there once
a guest is made."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the machine is. Memory in MiB."""

    cpus: int = 2
    memory: int = 4096
    dom0_memory: int = 640
    dom0_vcpus: int = 1
    disk: Path | None = None
    """A file of this machine that is a block device in dom0, `LENT`, to be read only."""
    counted: bool = False
    """Whether time in there is the instructions it has executed, two nanoseconds each, on
    processors that take turns: for comparisons that nothing else on this machine disturbs."""


class Machine:
    """A running QEMU. `close` ends it; so does leaving a `with` block."""

    def __init__(
        self, qemu: Qemu, image: Image, overlay: bytes, shape: Shape, xenstored: Xenstored
    ) -> None:
        self._log = os.memfd_create("lab-console")
        self._root = _initramfs(image.root, overlay)
        self.channel: socket.socket
        self.channel, theirs = socket.socketpair()
        self.channel.setblocking(False)
        passed = (self._log, self._root, theirs.fileno())
        try:
            self._process = subprocess.Popen(
                [*qemu.command, *_arguments(image, shape, xenstored, *passed)],
                env={**os.environ, **qemu.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                pass_fds=passed,
                start_new_session=True,  # a Ctrl-C is for us; we end it
                preexec_fn=end_with_parent,
            )
        except BaseException:
            self._release()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def console(self, lines: int = 30) -> str:
        """The last lines that Xen, dom0's kernel and QEMU itself wrote."""
        size = os.fstat(self._log).st_size
        tail = os.pread(self._log, 16 << 10, max(0, size - (16 << 10)))
        kept = [
            line
            for line in tail.decode(errors="backslashreplace").splitlines()
            if "TCG doesn't support" not in line
        ]
        return "\n".join(kept[-lines:])

    def close(self) -> None:
        """End QEMU and give back what it held. May be called twice."""
        self._process.kill()
        self._process.wait()
        self._release()

    def _release(self) -> None:
        self.channel.close()
        for descriptor in (self._log, self._root):
            if descriptor >= 0:
                os.close(descriptor)
        self._log = self._root = -1


def _initramfs(root: Path, overlay: bytes) -> int:
    """The image's root with the overlay after it, as an anonymous file."""
    descriptor = os.memfd_create("lab-root")
    with root.open("rb") as source:
        left = os.fstat(source.fileno()).st_size
        while left:
            left -= os.sendfile(descriptor, source.fileno(), None, left)
    view = memoryview(overlay)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor


def _arguments(
    image: Image, shape: Shape, xenstored: Xenstored, log: int, root: int, channel: int
) -> list[str]:
    initramfs = f"/proc/self/fd/{root}"
    memory = f"{shape.dom0_memory}M"
    dom0 = f"dom0_mem={memory},max:{memory} dom0_max_vcpus={shape.dom0_vcpus}"
    # The processor's counter is its clock, read without a system call: on a busy machine Linux
    # would doubt it, and ask Xen.
    linux = f"{LINUX} quiet tsc=reliable xenstored={xenstored}"
    drive = "if=none,format=raw,readonly=on,file.locking=off"
    return [
        *(COUNTED if shape.counted else PARALLEL),
        *("-cpu", CPU),
        *("-smp", str(shape.cpus), "-m", str(shape.memory)),
        *("-display", "none", "-nodefaults", "-no-reboot", "-monitor", "none"),
        *("-kernel", str(image.xen), "-append", f"{XEN} {dom0}"),
        *("-initrd", f"{image.linux} {linux},{initramfs}"),
        *("-chardev", f"file,id=log,append=on,path=/proc/self/fd/{log}", "-serial", "chardev:log"),
        *("-chardev", f"socket,id=host,fd={channel}", "-device", "virtio-serial-pci,addr=2"),
        *("-device", "virtserialport,chardev=host,name=lab"),
        *("-drive", f"{drive},id=kernel,file={image.linux}"),
        *("-device", "virtio-blk-pci,addr=3,drive=kernel"),
        *("-drive", f"{drive},id=ramdisk,file={initramfs}"),
        *("-device", "virtio-blk-pci,addr=4,drive=ramdisk"),
        *(_lent(shape.disk, drive) if shape.disk else ()),
    ]


def _lent(disk: Path, drive: str) -> tuple[str, ...]:
    file = str(disk.absolute()).replace(",", ",,")  # as QEMU's options have it
    return ("-drive", f"{drive},id=lent,file={file}", "-device", "virtio-blk-pci,addr=5,drive=lent")
