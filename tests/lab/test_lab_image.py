"""The lab's image: archives, kernels, manifests, and what is missing on a machine."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import xen_lab
from activations.errors import BackendError
from activations.outcome import RunOptions
from activations.scenario import Scenario, Silent, load
from xen_lab import cache, cpio, emulator, image, kernel, packages, shipment
from xen_lab.manifest import Damaged, Manifest


def archive(*files: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    writer = cpio.Writer(out)
    for name, data in files:
        writer.file(name, data)
    writer.close()
    return out.getvalue()


def names(data: bytes) -> list[str]:
    """The names in a newc archive, read by the letter of the format."""
    found, at = [], 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, length = fields[6], fields[11]
        name = data[at + 110 : at + 110 + length - 1].decode()
        if name == cpio.TRAILER:
            return found
        found.append(name)
        at += (110 + length + 3) // 4 * 4
        at += (size + 3) // 4 * 4


class TestArchive:
    def test_folders_come_before_what_is_in_them_and_once(self) -> None:
        data = archive(("/a/b/c", b"1"), ("a/b/d", b"22"), ("e", b"333"))
        assert names(data) == ["a", "a/b", "a/b/c", "a/b/d", "e"]

    def test_equal_trees_give_equal_bytes_in_whole_blocks(self, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "file").write_bytes(b"data")
        (tmp_path / "x" / "link").symlink_to("/bin/busybox")
        both = []
        for _ in range(2):
            out = io.BytesIO()
            writer = cpio.Writer(out)
            writer.tree(tmp_path)
            writer.close()
            both.append(out.getvalue())
        assert both[0] == both[1]
        assert len(both[0]) % 512 == 0
        assert names(both[0]) == ["x", "x/file", "x/link"]


def bzimage(payload: bytes) -> bytes:
    setup = bytearray(5 * 512)
    setup[kernel.SETUP_SECTS] = 4
    setup[kernel.MAGIC_AT : kernel.MAGIC_AT + 4] = kernel.MAGIC
    struct.pack_into("<II", setup, kernel.PAYLOAD_OFFSET, 64, len(payload))
    return bytes(setup) + bytes(64) + payload + b"more"


class TestKernel:
    @pytest.mark.parametrize("squeeze", [lzma.compress, gzip.compress])
    def test_the_elf_file_is_found_in_the_bzimage(self, squeeze) -> None:
        elf = kernel.ELF + bytes(1000)
        assert kernel.unpack(bzimage(squeeze(elf))) == elf

    @pytest.mark.parametrize(
        ("broken", "words"),
        [
            (b"no kernel" * 200, "no bzImage"),
            (bzimage(b"????"), "not known here"),
            (bzimage(gzip.compress(b"text")), "not an ELF file"),
        ],
    )
    def test_what_is_no_kernel_is_said(self, broken: bytes, words: str) -> None:
        with pytest.raises(BackendError, match=words):
            kernel.unpack(broken)


class TestManifest:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "vmlinux").write_bytes(b"kernel")
        Manifest.record(tmp_path, {"xen": "4.17"})
        return tmp_path

    def test_whole(self, folder: Path) -> None:
        assert Manifest.check(folder, hashes=True).packages == {"xen": "4.17"}

    def test_a_shorter_file_is_seen_at_once(self, folder: Path) -> None:
        (folder / "vmlinux").write_bytes(b"kern")
        with pytest.raises(Damaged, match="vmlinux has 4 bytes instead of 6"):
            Manifest.check(folder)

    def test_other_bytes_are_seen_by_their_hash(self, folder: Path) -> None:
        (folder / "vmlinux").write_bytes(b"KERNEL")
        Manifest.check(folder)
        with pytest.raises(Damaged, match="vmlinux has other bytes"):
            Manifest.check(folder, hashes=True)

    def test_a_missing_file(self, folder: Path) -> None:
        (folder / "vmlinux").unlink()
        with pytest.raises(Damaged, match="vmlinux is missing"):
            Manifest.check(folder)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"packages": 1, "files": {}}', "{\x00"])
    def test_a_manifest_that_makes_no_sense(self, folder: Path, text: str) -> None:
        (folder / "manifest.json").write_text(text)
        with pytest.raises(Damaged, match="makes no sense"):
            Manifest.check(folder)


class TestEnsure:
    """`ensure`, with the making itself replaced."""

    @pytest.fixture
    def made(self, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        built: list[Path] = []

        def build(
            progress: object, state: Path, fresh: bool, work: Path, folder: Path
        ) -> dict[str, str]:
            built.append(folder)
            (folder / "vmlinux").write_bytes(b"kernel")
            return {"xen": "4.17"}

        monkeypatch.setattr(image, "_build", build)
        return built

    def test_it_is_made_once(self, tmp_path: Path, made: list[Path]) -> None:
        first, second = image.ensure(quiet, tmp_path), image.ensure(quiet, tmp_path)
        assert first == second
        assert len(made) == 1
        assert image.cached(tmp_path) == first

    def test_a_damaged_one_is_made_anew_and_said(self, tmp_path: Path, made: list[Path]) -> None:
        image.ensure(quiet, tmp_path).linux.write_bytes(b"")
        assert image.cached(tmp_path) is None
        told: list[str] = []
        image.ensure(told.append, tmp_path)
        assert len(made) == 2
        assert "vmlinux has 0 bytes instead of 6" in told[0]

    def test_refreshed_when_asked(self, tmp_path: Path, made: list[Path]) -> None:
        image.ensure(quiet, tmp_path)
        image.ensure(quiet, tmp_path, refresh=True)
        assert len(made) == 2

    def test_a_crash_leaves_nothing_that_counts(self, tmp_path: Path, made: list[Path]) -> None:
        (tmp_path / "making-dead").mkdir()
        image.ensure(quiet, tmp_path)
        assert sorted(p.name.partition("-")[0] for p in tmp_path.iterdir()) == ["image", "lock"]

    def test_no_room(self, tmp_path: Path, made: list[Path], monkeypatch) -> None:
        monkeypatch.setattr(cache, "NEEDED", 1 << 60)
        with pytest.raises(BackendError, match="XDG_CACHE_HOME"):
            image.ensure(quiet, tmp_path)

    def test_a_cache_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(BackendError, match="set XDG_CACHE_HOME"):
            image.ensure(quiet, tmp_path / "file" / "below")


def quiet(text: str) -> None:
    pass


class TestMissingTools:
    @pytest.fixture(autouse=True)
    def nothing_installed(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def test_no_apt(self, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match="no apt-get"):
            packages.fetch(["busybox-static"], tmp_path, tmp_path)

    def test_no_qemu(self, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match="apt-get install qemu-system-x86"):
            emulator.ensure(quiet, tmp_path)

    def test_the_doctor_names_what_mends(self) -> None:
        unmet = [check for check in xen_lab.backend.doctor() if not check.ok]
        assert [check.what.split(",")[0] for check in unmet] == [
            "apt-get",
            "dpkg-deb",
            "QEMU for x86-64",
        ]
        assert all(check.mend for check in unmet)


def test_the_doctor_names_a_cache_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (room,) = (check for check in xen_lab.backend.doctor() if "disk" in check.what)
    assert (room.ok, room.found) == (False, f"{tmp_path / 'file'} cannot be written to")
    assert "XDG_CACHE_HOME" in room.mend


def test_a_qemu_that_is_too_new_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program(tmp_path, "qemu-system-x86_64", "print('QEMU emulator version 10.0.2 (Debian)')")
    (check,) = [c for c in xen_lab.backend.doctor() if c.what.startswith("QEMU")]
    assert (check.ok, check.found) == (False, "10.0.2 is too new")


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!{sys.executable}\n{script}")
    (folder / name).chmod(0o755)


class TestApt:
    """What apt-get says is passed on in one sentence with the command to try."""

    @pytest.fixture
    def tools(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.delenv(packages.SOURCES, raising=False)
        monkeypatch.setattr(packages, "OS_RELEASE", tmp_path / "os-release")
        (tmp_path / "os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
        program(folder, "dpkg-deb", "")
        return folder

    def test_a_package_that_is_not_there(self, tools: Path, tmp_path: Path) -> None:
        refuse = "print('E: Unable to locate package xen-utils-4.17', file=sys.stderr); exit(100)"
        program(tools, "apt-get", f"import sys; {refuse}")
        with pytest.raises(BackendError, match=r"locate package xen-utils-4.17.*apt-get update"):
            packages.fetch(["xen-utils-4.17"], tmp_path, tmp_path / "state")

    def test_stale_lists_are_replaced_by_our_own(self, tools: Path, tmp_path: Path) -> None:
        script = """
import sys
if "update" in sys.argv or any("Dir::State::lists" in word for word in sys.argv):
    open("busybox-static_1%3a1.35_amd64.deb", "w").close() if "download" in sys.argv else None
else:
    exit("E: Failed to fetch: 404")
"""
        program(tools, "apt-get", script)
        (tmp_path / "into").mkdir()
        fetched = packages.fetch(["busybox-static"], tmp_path / "into", tmp_path / "state")
        assert packages.version(fetched["busybox-static"]) == "1:1.35"

    @pytest.fixture
    def up_to_date(self, tools: Path) -> Path:
        """An apt-get that knows two packages; it keeps what it was asked in a file."""
        script = f"""
import sys
print(*sys.argv[1:], file=open({str(tools / "asked")!r}, "a"))
if "--print-uris" in sys.argv:
    print("Reading package lists...")
    for file in ("libc6_2.36_amd64.deb", "busybox-static_1%3a1.35_amd64.deb"):
        print(f"'http://there/pool/x.deb' {{file}} 12345 SHA256:00")
"""
        program(tools, "apt-get", script)
        return tools / "asked"

    @pytest.mark.parametrize("ask", [packages.newest_with_dependencies, packages.newest])
    def test_what_is_newest_is_asked_of_lists_that_were_fetched_now(
        self, up_to_date: Path, tmp_path: Path, ask: Callable[..., dict[str, str]]
    ) -> None:
        names = "libc6" if ask is packages.newest_with_dependencies else ["libc6"]
        versions = ask(names, tmp_path / "state")
        assert versions == {"libc6": "2.36", "busybox-static": "1:1.35"}
        update, query = up_to_date.read_text().splitlines()
        assert "APT::Update::Error-Mode=any update" in update
        assert all(f"Dir::State::lists={tmp_path}/state" in asked for asked in (update, query))

    def test_lists_that_cannot_be_fetched_now_are_not_believed(
        self, tools: Path, tmp_path: Path
    ) -> None:
        refuse = "exit('E: Could not resolve the name') if 'update' in sys.argv else print()"
        program(tools, "apt-get", f"import sys; {refuse}")
        with pytest.raises(BackendError, match="Could not resolve the name"):
            packages.newest(["libc6"], tmp_path / "state")

    def test_source_packages_come_from_the_archives_that_packages_come_from(
        self, tools: Path, tmp_path: Path
    ) -> None:
        etc, asked = tmp_path / "etc", tmp_path / "asked"
        (etc / "parts").mkdir(parents=True)
        (etc / "list").write_text("# main\ndeb [arch=amd64] http://one bookworm main\n")
        (etc / "parts" / "two.sources").write_text("Types: deb\nURIs: http://two\n")
        (etc / "parts" / "three.sources.disabled").write_text("Types: deb\nURIs: http://three\n")
        told = f"lines='{etc}/list'\nfolder='{etc}/parts/'"
        program(tools, "apt-config", f"print({told!r})")
        script = f"""
import sys
print(*sys.argv[1:], file=open({str(asked)!r}, "a"))
if "source" in sys.argv:
    open("xen_4.17.orig.tar.xz", "w").close()
"""
        program(tools, "apt-get", script)
        (tmp_path / "into").mkdir()
        files = packages.fetch_source("xen", tmp_path / "into", tmp_path / "state")
        assert [file.name for file in files] == ["xen_4.17.orig.tar.xz"]
        update, source = asked.read_text().splitlines()
        assert source.endswith("source --download-only xen/bookworm")
        for line in (update, source):
            options = dict(word.split("=", 1) for word in line.split() if "=" in word)
            lists = Path(options["Dir::State::lists"])
            assert lists.is_relative_to(tmp_path / "state")
        one_line = Path(options["Dir::Etc::sourcelist"]).read_text()
        assert one_line == "# main\ndeb-src [arch=amd64] http://one bookworm main\n"
        (stanzas,) = Path(options["Dir::Etc::sourceparts"]).glob("*.sources")
        assert stanzas.read_text() == "Types: deb-src\nURIs: http://two\n"

    def test_a_source_package_without_lists_is_refused_for_what_is_wrong_with_these(
        self, tools: Path, tmp_path: Path
    ) -> None:
        program(tools, "apt-config", "print('lines=/nowhere folder=/nowhere')")
        script = """
import sys
if "APT::Update::Error-Mode=any" in sys.argv:
    exit("E: Could not resolve the name")
if "source" in sys.argv:
    exit("E: You must put some 'deb-src' URIs in your sources.list")
"""
        program(tools, "apt-get", script)
        with pytest.raises(BackendError, match="Could not resolve the name"):
            packages.fetch_source("xen", tmp_path, tmp_path / "state")

    def test_another_release_is_asked_for_the_sources_of_a_debian_12(
        self, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "os-release").write_text("ID=ubuntu\nVERSION_CODENAME=noble\n")
        program(tools, "apt-get", "import sys; exit(f'E: {sys.argv}')")
        (check,) = [c for c in xen_lab.backend.doctor() if c.what == "Debian 12's packages"]
        assert not check.ok
        assert "ACTIVATIONS_LAB_SOURCES=FILE" in check.mend
        with pytest.raises(BackendError, match=r"another release.* ACTIVATIONS_LAB_SOURCES=FILE"):
            packages.fetch(["busybox-static"], tmp_path, tmp_path / "state")
        monkeypatch.setenv(packages.SOURCES, str(tmp_path / "sources.list"))
        with pytest.raises(BackendError, match=f"sourcelist={tmp_path}/sources.list"):
            packages.fetch(["busybox-static"], tmp_path, tmp_path / "state")


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "named"),
        [
            (RunOptions(seed=1), "seed"),
            (RunOptions(clock="virtual"), "clock"),
            (RunOptions(only="dom0"), "only"),
        ],
    )
    def test_what_a_real_xen_has_no_use_for(self, options: RunOptions, named: str) -> None:
        with pytest.raises(BackendError, match=f"'lab' has no use for {named}"):
            xen_lab.backend.run(Scenario("any"), options, Silent())

    def test_no_loop_for_this_process(self) -> None:
        with pytest.raises(BackendError, match="runs scenarios"):
            xen_lab.backend.new_event_loop()

    def test_a_lab_that_is_not_up(self) -> None:
        with pytest.raises(BackendError, match="not up"):
            xen_lab.Lab().shell("dom0", ["true"])


class TestShipment:
    def test_a_scenario_brings_the_modules_beside_it_that_it_imports(self, tmp_path: Path) -> None:
        (tmp_path / "pack").mkdir()
        for name, text in {
            "other.py": "raise RuntimeError",
            "helper.py": "def late():\n    from pack import inner",
            "pack/__init__.py": "",
            "pack/inner.py": "",
            "sc.py": "import helper, json\nimport activations\nfrom os.path import join\n"
            "s = activations.Scenario('s')",
        }.items():
            (tmp_path / name).write_text(text)
        bundle = shipment.bundle(load(str(tmp_path / "sc.py")))
        files = json.loads(shipment_unpack(bundle.files))
        assert sorted(files) == ["helper.py", "pack/__init__.py", "pack/inner.py", "sc.py"]
        assert bundle.target == "sc.py::s"
        assert bundle.imports == ("activations", "json", "os.path"), "what is not beside it"

    def test_a_scenario_without_a_file(self) -> None:
        with pytest.raises(BackendError, match="not loaded from a file"):
            shipment.bundle(Scenario("typed in"))

    def test_the_runtime_stands_alone(self, tmp_path: Path) -> None:
        """What is laid over the image imports with nothing else but a standard library."""
        (tmp_path / "overlay.cpio").write_bytes(shipment.overlay({"etc/motd": b"hello"}))
        data = (tmp_path / "overlay.cpio").read_bytes()
        listed = names(data)
        assert {"init", "etc/motd", "lab/site/xen_lab/inside/agent.py"} <= set(listed)
        assert not any("xen_sim" in name or "/cli/" in name for name in listed)
        extract(data, tmp_path)
        code = "import activations, xen_linux, xen_lab.inside.half"
        python = [sys.executable, "-I", "-S", "-c"]
        path = f"import sys; sys.path.insert(0, {str(tmp_path / 'lab/site')!r}); {code}"
        subprocess.run([*python, path], check=True, capture_output=True, text=True)

    @pytest.mark.parametrize("fits", [True, False])
    def test_the_accelerator_goes_along_where_the_labs_python_loads_it(
        self, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        suffix = ".cpython-311-x86_64-linux-gnu.so" if fits else ".cpython-312-x86_64-linux-gnu.so"
        built = tmp_path / f"_accelerator{suffix}"
        built.write_bytes(b"machine code")
        in_use = SimpleNamespace(__file__=str(built))
        monkeypatch.setattr(shipment.accelerator, "accelerator", in_use)
        assert (f"lab/site/activations/{built.name}" in names(shipment.overlay({}))) is fits
        monkeypatch.setattr(shipment.accelerator, "accelerator", None)
        assert not any(name.endswith(".so") for name in names(shipment.overlay({})))


def shipment_unpack(text: str) -> bytes:
    from xen_lab.inside.channel import unpack

    return unpack(text)


def extract(data: bytes, into: Path) -> None:
    """Unpack a newc archive's files."""
    at = 0
    while True:
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + length - 1].decode()
        at += (110 + length + 3) // 4 * 4
        if name == cpio.TRAILER:
            return
        if mode & 0o170000 == 0o100000:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_bytes(data[at : at + size])
        at += (size + 3) // 4 * 4
