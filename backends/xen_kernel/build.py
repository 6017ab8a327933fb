"""From a kernel's C files to a program that explores them.

    kernel, harness     gcc -S -fsanitize=thread, registers.py,       ┐ one piece, its data in one
                        assembly.py, gcc -c                           │ section, its names its own
    Xen's half          the same                                      ┘
    the engine          gcc -O2

Every object is kept in the cache folder under a digest of all that it was made from: what the
preprocessor gives for it, the flags, and the compiler. The program is linked at fixed addresses, so
that an address is the same in each run and each process.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time

from xen_kernel import assembly, registers, whole
from xen_kernel.errors import KernelError
from xen_kernel.scenario import HERE, Scenario

_How = Callable[[Sequence[Path], Sequence[str], Path, Path], None]
"""A way to make a file: how(sources, flags, made, work)."""

_BOTH = (
    *("-std=gnu11", "-O2", "-g", "-fno-pie", "-fno-strict-aliasing"),
    "-fzero-call-used-regs=all-gpr",
)
"""What a function leaves in registers would be a part of states, where it is saved on a stack; and
states are read in words, whatever they are made of."""
_OURS = (*_BOTH, "-fno-stack-protector", "-Wall", "-Wextra")
_WATCHED = ("-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0")
_SEEN = (
    *(*_BOTH, "-w", "-Werror=implicit-function-declaration"),
    *_WATCHED,
    *("-mno-red-zone", "-mgeneral-regs-only", "-fno-common", "-fno-stack-protector"),
    "-fstack-clash-protection",  # a large frame is touched page by page, and finds the stack's end
    *("-fcf-protection=none", "-fno-asynchronous-unwind-tables"),
    *("-ffreestanding", "-fno-jump-tables", "-include", str(HERE / "include" / "barriers.h")),
)
"""How the code is compiled whose accesses are steps."""
_MEMORY_FUNCTIONS = ("memset", "memcpy", "memmove", "memcmp")
_ENGINE = (
    *(
        "agents",
        "memory",
        "shared",
        "buffers",
        "cpu",
        "states",
        "seen",
        "graph",
        "crew",
        "runs",
        "search",
        "reduce",
        "faults",
        "main",
    ),
)
_XEN = ("hypercall", "event_2l", "event_fifo", "items")
_XENS_NAMES = r"explore_\w+|engine_\w+|shared_info|delivery"
KEPT = 30 * 24 * 3600.0
"""Seconds for which an unused file stays in the cache."""
_GIVEN = re.compile(
    r"__tsan_\w+|explore_\w+|assembly_\w+|engine_\w+|(xen_)?hypercall_page|HYPERCALL_PAGE|"
    r"shared_info|delivery|eoi|this_vcpu"
)
"""Names that the engine and Xen's half give to a kernel."""


def folder() -> Path:
    """`$XDG_CACHE_HOME/activations/kernels`."""
    base = os.environ.get("XDG_CACHE_HOME")
    made = (Path(base) if base else Path.home() / ".cache") / "activations" / "kernels"
    try:
        made.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KernelError(
            f"cannot write to the cache ({error}): set XDG_CACHE_HOME to a folder of yours"
        ) from error
    return made


def program(scenario: Scenario) -> Path:
    """The program that explores this kernel with this harness. Raises `KernelError` for C that does
    not compile, an instruction that is not known, a name that no file defines, and no gcc."""
    include = (HERE / "include", *scenario.include)
    files = (*scenario.kernel, scenario.harness)
    defines = (*scenario.defines, *(["EXPLORE_ARM64"] if scenario.arch == "arm64" else []))
    kernel = [_seen(path, include, defines) for path in files]
    xen = [_own(HERE / "xen" / f"{name}.c", _SEEN, _instrumented) for name in _XEN]
    engine = [_own(HERE / "engine" / f"{name}.c", _OURS, _plain) for name in _ENGINE]
    stubs = _made([HERE / "engine" / "stubs.S"], (), _assemble, suffix=".o")
    parts = [_piece(kernel, "explore_setup"), _piece(xen, _XENS_NAMES)]
    _nothing_missing(parts[0], files)
    made = _made([*parts, *engine, stubs], (), _link, suffix="")
    _prune()
    return made


def _prune() -> None:
    """Remove what was not used for a month."""
    for path in folder().iterdir():
        with suppress(OSError):  # another process does so too
            if path.is_file() and path.stat().st_mtime < time() - KEPT:
                path.unlink()


@cache
def compiler() -> str:
    """gcc's version. Raises `KernelError` where there is none."""
    try:
        return _run("gcc", "--version")
    except FileNotFoundError:
        raise KernelError(
            "gcc is not installed: kernels in C are compiled here. Install gcc and binutils "
            "(Debian: apt install gcc libc6-dev)"
        ) from None


def _own(source: Path, flags: Sequence[str], how: _How) -> Path:
    """A file of the engine's own: made anew where anything of the engine's is another."""
    include = (f"-I{HERE / name}" for name in ("include", "engine", "xen"))
    return _made([source], (*flags, *include, _rules()), how, suffix=".o")


def _seen(source: Path, include: Iterable[Path], defines: Iterable[str]) -> Path:
    """A file whose accesses are steps, as an object."""
    _content(source)
    flags = [*_SEEN, *(f"-D{define}" for define in defines)]
    for each in include:
        if not each.exists():
            raise KernelError(f"--include {each}: there is no folder and no header of this name")
        flags += [f"-I{each}"] if each.is_dir() else ["-include", str(each)]
    return _compiled(source, flags, _instrumented)


def _compiled(source: Path, flags: Sequence[str], how: _How) -> Path:
    compiler()
    text = _gcc(*flags, "-E", str(source.resolve()))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return _made([source], (*flags, digest), how, suffix=".o")


def _made(sources: Sequence[Path], flags: Sequence[str], how: _How, *, suffix: str) -> Path:
    """A file of the cache, made now if it is not there."""
    place = folder()
    digest = hashlib.sha256(f"{how.__name__} {flags} {compiler()} {_rules()}".encode())
    for source in sources:
        digest.update(b"\0" + _content(source))
    name = sources[0].stem.partition("-")[0]
    made = place / f"{name}-{digest.hexdigest()[:24]}{suffix}"
    if made.exists():
        os.utime(made)
    else:
        with TemporaryDirectory(prefix="making-", dir=place) as work:
            how(sources, flags, Path(work) / "made", Path(work))
            (Path(work) / "made").rename(made)
    return made


def _content(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise KernelError(f"cannot read {source}: {error.strerror}") from error


@cache
def _rules() -> str:
    """What all of the cache's files depend on: this code, and the engine's."""
    rules = [HERE / f"{name}.py" for name in ("build", "assembly", "registers", "whole")]
    files = [*rules, *sorted(HERE.glob("*/*.[chS]"))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def _plain(sources: Sequence[Path], flags: Sequence[str], made: Path, work: Path) -> None:
    _run("gcc", *flags[:-1], "-c", str(sources[0]), "-o", str(made))


def _assemble(sources: Sequence[Path], flags: Sequence[str], made: Path, work: Path) -> None:
    _run("gcc", "-c", str(sources[0]), "-o", str(made))


def _instrumented(sources: Sequence[Path], flags: Sequence[str], made: Path, work: Path) -> None:
    plain, before, after = (work / f"{name}.s" for name in ("plain", "before", "after"))
    source = str(sources[0].resolve())
    _gcc(*flags[:-1], "-S", source, "-o", str(before))
    _gcc(*(each for each in flags[:-1] if each not in _WATCHED), "-S", source, "-o", str(plain))
    watched = whole.marked(before.read_text(), whole.places(plain.read_text()))
    try:
        after.write_text(assembly.rewrite(registers.clear(watched), sources[0]))
    except assembly.UnknownInstruction as refused:
        raise KernelError(str(refused)) from refused
    _run("gcc", "-c", str(after), "-o", str(made))


def _piece(objects: Sequence[Path], keep: str) -> Path:
    return _made(objects, (keep,), _join, suffix=".o")


def _join(sources: Sequence[Path], flags: Sequence[str], made: Path, work: Path) -> None:
    """One object of several, its data in one section, and no name to be seen but those to keep."""
    joined = work / "joined.o"
    _run("ld", "-r", *map(str, sources), "-o", str(joined))
    symbols = _run("nm", "-g", "--defined-only", str(joined)).split("\n")
    names = [line.split()[-1] for line in symbols if line]
    keep = work / "keep"
    keep.write_text("\n".join(name for name in names if re.fullmatch(flags[0], name)) + "\n")
    to = "kernel_data,alloc,load,data,contents"
    renamed = [f"--rename-section={name}={to}" for name in _data(joined)]
    redefined = [f"--redefine-sym={name}=engine_{name}" for name in _MEMORY_FUNCTIONS]
    _run("objcopy", *renamed, *redefined, f"--keep-global-symbols={keep}", str(joined), str(made))


def _data(path: Path) -> list[str]:
    """Sections that are written to."""
    found = []
    lines = _run("objdump", "-h", str(path)).split("\n")
    for line, below in pairwise(lines):
        fields = line.split()
        flags = below.replace(",", " ").split()
        if (
            fields
            and fields[0].isdigit()
            and "ALLOC" in flags
            and not {"READONLY", "CODE"} & {*flags}
        ):
            found.append(fields[1])
    return [name for name in found if not name.startswith((".init_array", ".fini_array"))]


def _link(sources: Sequence[Path], flags: Sequence[str], made: Path, work: Path) -> None:
    _run("gcc", "-no-pie", "-Wl,-z,noexecstack", *map(str, sources), "-o", str(made))


def _nothing_missing(piece: Path, sources: Iterable[Path]) -> None:
    """Each name that the kernel takes from elsewhere is one that is given."""
    lines = _run("nm", "-u", str(piece)).split("\n")
    names = [line.split()[-1] for line in lines if line]
    missing = [name for name in names if not _GIVEN.fullmatch(name)]
    if not missing:
        return
    said = "\n".join(f"  {_used(name, sources)}" for name in missing)
    raise KernelError(
        f"the kernel uses names that none of the files given here defines:\n{said}\n"
        "write stand-ins for them, in the harness or in a header of --include"
    )


def _used(name: str, sources: Iterable[Path]) -> str:
    """A name, with the first line that has it."""
    for source in sources:
        for number, line in enumerate(source.read_text(errors="replace").split("\n"), 1):
            if re.search(rf"\b{re.escape(name)}\b", line):
                return f"{name}, {source}:{number}: {line.strip()}"
    return name


_HEADER = re.compile(r"fatal error: (\S+): No such file")
_UNKNOWN = re.compile(
    r"implicit declaration of function '(\w+)|'(\w+)' undeclared|unknown type name '(\w+)"
)


def _gcc(*words: str) -> str:
    """Compile what is the user's: the compiler's words, and which stand-ins are missing."""
    try:
        return _run("gcc", *words)
    except KernelError as error:
        said = str(error)
    missing = [f"<{name}>" for name in _HEADER.findall(said)]
    missing += ["".join(names) for names in _UNKNOWN.findall(said)]
    if missing:
        names = ", ".join(dict.fromkeys(missing))
        said += f"\nmissing: {names}. Give their folder with --include, or write stand-ins for them"
    raise KernelError(said)


def _run(*command: str) -> str:
    """Raises `KernelError` with the command's own words where it fails."""
    environment = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise KernelError(done.stderr.strip() or f"{command[0]} ended with {done.returncode}")
    return done.stdout
