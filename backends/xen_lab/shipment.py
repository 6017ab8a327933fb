"""What this machine puts into the lab: the runtime at every boot, a scenario at every run.

The image holds Debian's packages and changes seldom; `activations`, `xen_linux` and the Python
packages they need are taken from where they are imported here, so that a change in the source is
in the next lab. They are laid over the image as a second archive. With them goes the accelerator,
where it is in use here and was built for a Python as the lab's.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import json
import py_compile
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from activations import accelerator
from activations.errors import BackendError
from activations.scenario import Scenario
from xen_lab import cpio
from xen_lab.inside.channel import pack

HERE = Path(__file__).parent
OURS = ("activations", "xen_linux")
NEEDED = (
    "anyio",
    "certifi",
    "dpkt",
    "h11",
    "httpcore",
    "httpx",
    "idna",
    "pytun_pmd3",
    "sniffio",
    "sortedcontainers",
    "structlog",
    "typing_extensions",
)
COMMANDS = "activations/cli/"
NEEDED_BY_COMMAND = ("click", "pyroute2", "rich")
SITE = "lab/site"
COMMAND_SITE = "lab/command"
"""Apart: structlog would import rich if it found it, in every half, and imports are slow there."""
COMMAND = f"""\
#!/bin/busybox sh
PYTHONPATH=/{SITE}:/{COMMAND_SITE} exec python3 -P -m activations "$@"
"""
LAB_PYTHON = (3, 11)
LAB_SUFFIX = ".cpython-311-x86_64-linux-gnu.so"
"""How the name of a module in C ends that the lab's Python loads."""
DISTRIBUTION = "xen_activations-0.dist-info"
ENTRY_POINTS = "[activations.backends]\nlinux = xen_linux:backend\n"


def overlay(extra: Mapping[str, bytes | Path], *, command: bool = False) -> bytes:
    """The archive laid over the image: init, the agent, the runtime, and the caller's files; the
    command `activations` too, if that is wanted there."""
    out = io.BytesIO()
    archive = cpio.Writer(out)
    archive.file("init", (HERE / "inside" / "init").read_bytes(), 0o755)
    archive.file(f"{SITE}/xen_lab/__init__.py", b"")
    for path in sorted((HERE / "inside").glob("*.py")):
        _module(archive, path, f"{SITE}/xen_lab/inside/{path.name}")
    for name in (*OURS, *NEEDED):
        for path, where in _sources(name):
            if command or COMMANDS not in where:
                _module(archive, path, f"{SITE}/{where}")
    for path in _accelerator():
        archive.file(f"{SITE}/activations/{path.name}", path.read_bytes(), 0o755)
    if command:
        for name in NEEDED_BY_COMMAND:
            for path, where in _sources(name):
                _module(archive, path, f"{COMMAND_SITE}/{where}")
        archive.file("usr/bin/activations", COMMAND.encode(), 0o755)
    archive.file(f"{SITE}/{DISTRIBUTION}/METADATA", _metadata())
    archive.file(f"{SITE}/{DISTRIBUTION}/entry_points.txt", ENTRY_POINTS.encode())
    for name, content in extra.items():
        if isinstance(content, Path):
            archive.file(name, content.read_bytes(), content.stat().st_mode & 0o777)
        else:
            archive.file(name, content, 0o755 if content.startswith((b"#!", b"\x7fELF")) else 0o644)
    archive.close()
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A scenario's files, ready to be sent."""

    target: str
    """`FILE::NAME`, relative to the folder the files are laid out in."""
    digest: str
    files: str
    """Path to text, as JSON, packed for a message."""
    imports: tuple[str, ...]
    """What they import from elsewhere: modules that are in the domains already."""


def bundle(scenario: Scenario) -> Bundle:
    """The scenario's file, and the modules beside it that it imports, and theirs.

    Raises `BackendError` for a scenario that was not loaded from a file.
    """
    if scenario.path is None:
        raise BackendError(
            f"scenario {scenario.name!r} was not loaded from a file, and the lab runs it in other "
            "machines: load it with activations.scenario.load(FILE)"
        )
    folder = scenario.path.parent
    files = {str(path.relative_to(folder)): text for path, text in _closure(scenario.path)}
    elsewhere = {
        name
        for text in files.values()
        for name in _imported(text)
        if not any(_beside(folder, name.partition(".")[0]))
    }
    content = json.dumps(files, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()[:16]
    target = f"{scenario.path.name}::{scenario.name}"
    return Bundle(target, digest, pack(content), tuple(sorted(elsewhere)))


def _closure(path: Path) -> Iterator[tuple[Path, str]]:
    """A file, and what it imports from its own folder, however deep."""
    folder, seen, waiting = path.parent, {path}, [path]
    while waiting:
        source = waiting.pop()
        text = source.read_text("utf-8")
        yield source, text
        for name in _imported(text):
            found = set(_beside(folder, name.partition(".")[0])) - seen
            seen |= found
            waiting += sorted(found)


def _imported(text: str) -> set[str]:
    """The modules that a source imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def _beside(folder: Path, name: str) -> Iterator[Path]:
    """The files of a module or package in a folder, none if it comes from elsewhere."""
    if (folder / f"{name}.py").is_file():
        yield folder / f"{name}.py"
    elif (folder / name).is_dir() and name not in OURS:
        yield from (folder / name).rglob("*.py")


def _sources(name: str) -> Iterator[tuple[Path, str]]:
    """The Python files of an installed package or module, and where they belong."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        if name in OURS:
            raise BackendError(f"cannot find the package {name} to put into the lab")
        return
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        yield origin, origin.name
        return
    for path in sorted(origin.parent.rglob("*.py")):
        yield path, f"{name}/{path.relative_to(origin.parent)}"


def _accelerator() -> Iterator[Path]:
    """The accelerator's file, where there is one that fits. It goes without its source, beside
    which it was found to be up to date here."""
    if accelerator.accelerator is not None:
        path = Path(accelerator.accelerator.__file__)
        if path.name.endswith(LAB_SUFFIX):
            yield path


def _module(archive: cpio.Writer, source: Path, where: str) -> None:
    """A source file, and beside it what Python compiles it to, where this Python can say."""
    archive.file(where, source.read_bytes())
    if sys.version_info[:2] != LAB_PYTHON:
        return
    with TemporaryDirectory() as folder:
        compiled = Path(folder, "module.pyc")
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(
            str(source), str(compiled), dfile=f"/{where}", doraise=True, invalidation_mode=mode
        )
        place = Path(where)
        cached = place.parent / "__pycache__" / f"{place.stem}.cpython-311.pyc"
        archive.file(str(cached), compiled.read_bytes())


def _metadata() -> bytes:
    """Enough for `importlib.metadata`: the backends are found through entry points."""
    try:
        version = metadata.version("xen-activations")
    except metadata.PackageNotFoundError:
        version = "0"
    return f"Metadata-Version: 2.1\nName: xen-activations\nVersion: {version}\n".encode()
