"""Which files a disk is made of, and which are refused: those that others have, those that are no
raw images, odd sizes, what cannot be written. With real QEMU programs, and real loop devices where
this machine lets them be made."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.needs import leave_out
from support.served_disk import on, read

from activations.cli import main
from activations.cli.demo import command as demo
from activations.cli.disks import CannotServe, file_disk
from activations.drivers.block import FileDisk, sharing
from activations.drivers.block.errors import ImageError, ImageInUse, ImageReadOnly, UnfitImage
from activations.drivers.block.formats import FORMATS

SIZE = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * SIZE)
    return path


def qemu(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        leave_out("images that a QEMU has", "apt-get install qemu-utils")
    return found


@contextmanager
def open_in_qemu(image: Path, *options: str) -> Iterator[int]:
    """A QEMU program that has it open; its process."""
    words = [qemu("qemu-io"), *options, "-f", "raw", str(image)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=0
    ) as program:
        assert program.stdin
        assert program.stdout
        program.stdin.write("read 0 512\n")
        while "ops/sec" not in (line := program.stdout.readline()):
            assert line
        try:
            yield program.pid
        finally:
            program.stdin.close()


def qemu_says(image: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What a QEMU program says that does one thing with it."""
    return subprocess.run(
        [qemu("qemu-io"), "-f", "raw", *words, str(image)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


WRITES = ("-c", "write 0 512")
READS = ("-r", "-c", "read 0 512")


# QEMU


@pytest.mark.parametrize("options", [(), ("-r",)])
def test_an_image_that_a_qemu_has_is_not_written(options: tuple[str, ...], image: Path) -> None:
    with (
        open_in_qemu(image, *options) as process,
        pytest.raises(ImageInUse, match=rf"a QEMU has locked it, .*: qemu-io \({process}\)"),
    ):
        FileDisk(image)
    FileDisk(image).close()


def test_an_image_that_a_qemu_writes_is_not_read_and_one_that_it_reads_is(image: Path) -> None:
    with open_in_qemu(image), pytest.raises(ImageInUse):
        FileDisk(image, read_only=True)
    with open_in_qemu(image, "-r"):
        FileDisk(image, read_only=True).close()


def test_an_image_that_is_served_is_refused_by_qemu(image: Path) -> None:
    with FileDisk(image):
        for words in (WRITES, READS):
            said = qemu_says(image, *words)
            assert said.returncode
            assert "lock" in said.stderr
    assert qemu_says(image, *WRITES).returncode == 0


def test_an_image_that_is_served_read_only_is_read_by_qemu_and_not_written(image: Path) -> None:
    with FileDisk(image, read_only=True):
        assert qemu_says(image, *READS).returncode == 0
        said = qemu_says(image, *WRITES)
        assert said.returncode
        assert "lock" in said.stderr


def test_a_file_system_without_locks_serves_all_the_same(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*args: Any) -> int:
        raise OSError(sharing.NO_LOCKS[0], "No locks available")

    monkeypatch.setattr(sharing, "_ask", none)
    FileDisk(image).close()


# Loop devices


@contextmanager
def loop(image: Path, *options: str) -> Iterator[Path]:
    """A loop device on this image."""
    made = subprocess.run(
        ["losetup", "--find", "--show", *options, image],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        leave_out("real loop devices", "as root, where the kernel has them: modprobe loop")
    device = Path(made.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_an_image_under_a_loop_device_is_refused_with_the_devices_name(image: Path) -> None:
    with loop(image) as device:
        for read_only in (False, True):
            with pytest.raises(
                ImageInUse, match=rf"{device} is a loop device of it; .* losetup -d {device}"
            ):
                FileDisk(image, read_only=read_only)
    FileDisk(image).close()


def test_an_image_that_a_loop_device_only_reads_can_be_read(image: Path) -> None:
    with loop(image, "--read-only"):
        FileDisk(image, read_only=True).close()
        with pytest.raises(ImageInUse):
            FileDisk(image)


def test_a_loop_device_that_is_mounted_is_told_of_with_the_place(
    image: Path, tmp_path: Path
) -> None:
    if shutil.which("mkfs.ext4") is None:
        leave_out("images that are mounted", "apt-get install e2fsprogs")
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", image], check=True)
    place = tmp_path / "mounted"
    place.mkdir()
    with loop(image) as device:
        if subprocess.run(["mount", device, place], check=False, capture_output=True).returncode:
            leave_out("images that are mounted", "as root, where file systems can be mounted")
        try:
            with pytest.raises(
                ImageInUse, match=rf"{device} is a loop device of it, mounted on {place};"
            ):
                FileDisk(image)
            with pytest.raises(ImageInUse, match=rf"^{device} is in use, mounted on {place}$"):
                FileDisk(device)
        finally:
            subprocess.run(["umount", place], check=True)


def test_a_loop_device_that_can_only_be_read_is_not_offered_for_writing(image: Path) -> None:
    with loop(image, "--read-only") as device:
        with pytest.raises(ImageReadOnly, match="it is a read-only device"):
            FileDisk(device)
        with pytest.raises(CannotServe, match=r"read-only device .*: --read-only"):
            file_disk(device, read_only=False)
        with FileDisk(device, read_only=True) as disk:
            assert disk.sectors == SIZE // 512


class Kernel:
    """A /sys in which loop devices are on files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def loop(self, number: int, backing: str, *, reads: bool = False) -> None:
        device = self.folder / "block" / f"loop{number}"
        (device / "loop").mkdir(parents=True)
        (device / "loop" / "backing_file").write_text(f"{backing}\n")
        (device / "ro").write_text("1\n" if reads else "0\n")


def have(image: Path, kernel: Kernel, *, read_only: bool) -> None:
    fd = os.open(image, os.O_RDONLY)
    try:
        sharing.have_alone(fd, image, read_only, sys=kernel.folder)
    finally:
        os.close(fd)


def test_the_kernel_says_which_loop_devices_are_on_a_file(image: Path, tmp_path: Path) -> None:
    """Whatever name of it they were given; and where the file is none to be seen, it is another."""
    other_name = tmp_path / "same.img"
    other_name.hardlink_to(image)
    kernel = Kernel(tmp_path / "sys")
    kernel.loop(0, f"{tmp_path}/gone.img (deleted)")
    kernel.loop(1, str(other_name), reads=True)
    have(image, kernel, read_only=True)
    with pytest.raises(ImageInUse, match=r"/dev/loop1"):
        have(image, kernel, read_only=False)
    kernel.loop(2, str(image))
    with pytest.raises(ImageInUse, match=r"/dev/loop2"):
        have(image, kernel, read_only=True)


# Formats


@pytest.mark.parametrize(
    "name", ["qcow", "qcow2", "vhdx", "vmdk", "vdi", "vpc", "qed", "parallels"]
)
def test_what_qemu_makes_is_refused_with_the_command_that_converts_it(
    name: str, tmp_path: Path
) -> None:
    given = tmp_path / f"disk of.{name}"
    subprocess.run([qemu("qemu-img"), "create", "-q", "-f", name, given, "8M"], check=True)
    if name == "qed":
        subprocess.run(["truncate", "-s", "%512", given], check=True)
    with pytest.raises(UnfitImage, match=f"-f {name} -O raw") as refused:
        FileDisk(given)
    command = str(refused.value).split("`")[1]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    with FileDisk(given.with_suffix(".img")) as disk:
        assert disk.sectors >= 8 << 20 >> 9  # VHD has cylinders to fill


@pytest.mark.parametrize(
    ("name", "kind"), [("vpc", "fixed"), ("vmdk", "monolithicFlat"), ("vmdk", "streamOptimized")]
)
def test_other_kinds_of_a_format_are_known_too(name: str, kind: str, tmp_path: Path) -> None:
    """The fixed VHD begins as a raw image does: its mark is in its last sector."""
    given = tmp_path / "disk"
    subprocess.run(
        [qemu("qemu-img"), "create", "-q", "-f", name, "-o", f"subformat={kind}", given, "8M"],
        check=True,
    )
    with pytest.raises(UnfitImage, match=f"-f {name} -O raw"):
        FileDisk(given, read_only=True)


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: f"{each.name} at {each.offset}")
def test_a_mark_is_looked_for_where_its_format_has_it(each: Any, image: Path) -> None:
    with image.open("r+b") as file:
        file.seek(each.offset, os.SEEK_SET if each.offset >= 0 else os.SEEK_END)
        file.write(each.mark)
    with pytest.raises(UnfitImage, match=each.name):
        FileDisk(image)
    with FileDisk(image, format="raw") as disk:
        assert disk.sectors == SIZE // 512


@pytest.mark.parametrize("tool", ["gzip", "xz", "zstd", "bzip2", "lz4"])
def test_what_is_packed_is_refused_with_the_command_that_unpacks_it(tool: str, image: Path) -> None:
    if shutil.which(tool) is None:
        leave_out(
            f"images that {tool} has packed",
            f"apt-get install {'xz-utils' if tool == 'xz' else tool}",
        )
    packed = image.with_suffix(f".{tool}")
    packed.write_bytes(subprocess.run([tool, "-c", image], capture_output=True, check=True).stdout)
    with pytest.raises(UnfitImage) as refused:
        FileDisk(packed, read_only=True)
    image.unlink()
    subprocess.run(str(refused.value).split("`")[1], shell=True, check=True)
    assert image.read_bytes() == b"x" * SIZE


def test_a_command_never_writes_over_the_file_that_it_converts() -> None:
    qcow2 = FORMATS[0]
    for name in ("disk.img", "disk", "disk.raw", "disk.qcow2", "a b.img"):
        *_, given, raw = qcow2.command(Path(name)).rsplit(" ", 2)
        assert given != raw


# Sizes


def test_an_odd_size_is_refused_where_it_is_to_be_written(image: Path) -> None:
    for size in (1, 1000, SIZE + 1):
        os.truncate(image, size)
        with pytest.raises(UnfitImage, match=rf"has {size} bytes.*truncate -s %512"):
            FileDisk(image)
    subprocess.run(["truncate", "-s", "%512", image], check=True)
    with FileDisk(image) as disk:
        assert disk.sectors == SIZE // 512 + 1


@pytest.mark.parametrize("size", [1, 511, 1000, SIZE + 1])
def test_an_odd_size_is_read_to_its_end_and_zeroes_fill_the_last_sector(
    size: int, image: Path
) -> None:
    content = os.urandom(size)
    image.write_bytes(content)
    sectors = -(-size // 512)

    async def look() -> None:
        with FileDisk(image, read_only=True) as disk:
            assert disk.sectors == sectors
            whole = content.ljust(sectors * 512, b"\0")
            assert await read(disk, 0, sectors * 512) == whole
            assert await read(disk, 512 * (sectors - 1), *[128] * 4) == whole[-512:]

    for clock in ("virtual", "wall"):
        on(clock, look)
    assert image.read_bytes() == content


# What cannot be written


def test_a_file_on_a_read_only_file_system_is_served_read_only_or_not_at_all(
    tmp_path: Path,
) -> None:
    place = tmp_path / "mounted"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "tmpfs", place]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        leave_out("files on read-only file systems", "as root, where tmpfs can be mounted")
    try:
        image = place / "disk.img"
        image.write_bytes(bytes(4096))
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        with pytest.raises(ImageReadOnly, match="cannot be written: Read-only file system"):
            FileDisk(image)
        with pytest.raises(CannotServe, match=r"Read-only file system .*: --read-only"):
            file_disk(image, read_only=False)
        FileDisk(image, read_only=True).close()
    finally:
        subprocess.run(["umount", place], check=True)


# One rule everywhere


def a_qcow2(path: Path) -> None:
    path.write_bytes(b"QFI\xfb\0\0\0\3" + bytes(504))


def of_no_bytes(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("make", [a_qcow2, of_no_bytes, Path.mkdir])
def test_attach_and_demo_refuse_what_a_file_disk_refuses_and_say_the_same(
    make: Callable[[Path], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "given"
    make(given)
    with pytest.raises(ImageError) as refused:
        FileDisk(given, read_only=True)
    with pytest.raises(CannotServe) as told:
        file_disk(given, read_only=True)
    assert str(told.value) == str(refused.value)
    assert main(["demo", "--disk", str(given)]) == 2
    assert capsys.readouterr().err == f"activations: {refused.value}\n"


def test_who_insists_that_a_file_is_raw_has_it_served(tmp_path: Path) -> None:
    given = tmp_path / "given"
    a_qcow2(given)
    file_disk(given, read_only=False, format="raw").close()
    demo.opened(given, "raw").close()
