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
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from stat import S_ISDIR, S_ISREG
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
    *("-x", "c", *_BOTH, "-Werror=implicit-function-declaration"),
    *_WATCHED,
    *("-mno-red-zone", "-mgeneral-regs-only", "-fno-common", "-fno-stack-protector"),
    "-fstack-clash-protection",  # a large frame is touched page by page, and finds the stack's end
    *("-fcf-protection=none", "-fno-asynchronous-unwind-tables"),
    *("-ffreestanding", "-fno-jump-tables", "-include", str(HERE / "include" / "barriers.h")),
)
"""How the code is compiled whose accesses are steps."""
_CALLS = "-fno-optimize-sibling-calls"
"""And a kernel and its harness: so that a line is a call's, and not that of the caller's caller."""
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
_HOSTED = (".init_array*", ".fini_array*", ".rela.init_array*", ".rela.fini_array*")
"""Sections of constructors: of a program's, and the compiler's own for -fsanitize=thread."""
_PER_THREAD = (".tdata", ".tbss")
_SEAL = 32
"""Bytes behind each file of the cache: a digest of what precedes them."""
_GIVEN = re.compile(
    r"__tsan_\w+|explore_\w+|assembly_\w+|engine_\w+|(xen_)?hypercall_page|HYPERCALL_PAGE|"
    r"shared_info|delivery|eoi|this_vcpu"
)
"""What names look like that the engine and Xen's half give to a kernel."""


def folder() -> Path:
    """`$XDG_CACHE_HOME/activations/kernels`."""
    base = os.environ.get("XDG_CACHE_HOME")
    made = (Path(base) if base else Path.home() / ".cache") / "activations" / "kernels"
    try:
        made.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(error) from error
    return made


def _unwritable(error: OSError) -> KernelError:
    return KernelError(
        f"cannot write to the cache ({error}): set XDG_CACHE_HOME to a folder of yours"
    )


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
    parts = [_piece(kernel, "explore_setup"), _piece(xen, _XENS_NAMES), *engine, stubs]
    try:
        made = _made(parts, (), _link, suffix="")
    except _Missing as missing:
        raise _wanted(missing.args, files) from None
    _prune()
    return made


def _prune() -> None:
    """Remove what was not used for a month, and what was begun and never came to its end."""
    for path in folder().iterdir():
        with suppress(OSError):  # another process does so too, or it is another user's
            if path.stat().st_mtime >= time() - KEPT:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@cache
def compiler() -> str:
    """gcc's version. Raises `KernelError` where there is none."""
    return _run("gcc", "--version")


def _own(source: Path, flags: Sequence[str], how: _How) -> Path:
    """A file of the engine's own: made anew where anything of the engine's is another."""
    include = (f"-I{HERE / name}" for name in ("include", "engine", "xen"))
    return _made([source], (*flags, *include, _rules()), how, suffix=".o")


def _seen(source: Path, include: Iterable[Path], defines: Iterable[str]) -> Path:
    """A file whose accesses are steps, as an object."""
    _content(source)
    flags = [*_SEEN, _CALLS, *(f"-D{define}" for define in defines)]
    for each in include:
        try:
            mode = each.stat().st_mode
        except OSError:
            raise KernelError(
                f"--include {each}: there is no folder and no header of this name"
            ) from None
        flags += [f"-I{each}"] if S_ISDIR(mode) else ["-include", str(each)]
    return _compiled(source, flags, _instrumented)


def _compiled(source: Path, flags: Sequence[str], how: _How) -> Path:
    compiler()
    text = _gcc(*flags, "-E", str(source.resolve()))
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return _made([source], (*flags, digest), how, suffix=".o")


def _made(sources: Sequence[Path], flags: Sequence[str], how: _How, *, suffix: str) -> Path:
    """A file of the cache, made now if it is not there."""
    place = folder()
    digest = hashlib.sha256(f"{how.__name__} {flags} {compiler()} {_rules()}".encode())
    for source in sources:
        digest.update(b"\0" + _content(source))
    name = sources[0].stem.partition("-")[0]
    made = place / f"{name}-{digest.hexdigest()[:24]}{suffix}"
    if _is_sealed(made):
        with suppress(OSError):  # it is another user's, or a read-only place
            os.utime(made)
        return made
    try:
        with TemporaryDirectory(prefix="making-", dir=place, ignore_cleanup_errors=True) as work:
            making = Path(work) / "made"
            how(sources, flags, making, Path(work))
            _seal(making)
            making.rename(made)
    except OSError as error:
        raise _unwritable(error) from error
    return made


def _seal(path: Path) -> None:
    """Its digest behind it: what reads objects and programs looks no further than their end."""
    content = path.read_bytes()
    path.write_bytes(content + hashlib.sha256(content).digest())


def _is_sealed(path: Path) -> bool:
    """Whether it is there as it was made: not cut short by a machine that went down, say."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-_SEAL]).digest() == content[-_SEAL:]


def _content(source: Path) -> bytes:
    try:
        if not S_ISREG(source.stat().st_mode):  # another may have no end
            raise KernelError(f"cannot read {source}: not a regular file")
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
    watched = whole.marked(_text(before), whole.places(_text(plain)))
    try:
        rewritten = assembly.rewrite(registers.clear(watched), sources[0])
        after.write_bytes(rewritten.encode(errors="surrogateescape"))
    except assembly.UnknownInstruction as refused:
        raise KernelError(str(refused)) from refused
    _run("gcc", "-c", str(after), "-o", str(made))


def _text(assembly: Path) -> str:
    """With bytes in it that a source has, in whatever encoding."""
    return assembly.read_bytes().decode(errors="surrogateescape")


def _piece(objects: Sequence[Path], keep: str) -> Path:
    return _made(objects, (keep,), _join, suffix=".o")


def _join(sources: Sequence[Path], flags: Sequence[str], made: Path, work: Path) -> None:
    """One object of several, its data in one section, and no name to be seen but those to keep."""
    joined = work / "joined.o"
    _run("ld", "-r", *map(str, sources), "-o", str(joined))
    kept = [name for name in _names("--defined-only", joined) if re.fullmatch(flags[0], name)]
    keep = work / "keep"
    keep.write_text("\n".join(kept) + "\n")
    to = "kernel_data,alloc,load,data,contents"
    renamed = [f"--rename-section={name}={to}" for name in _data(joined)]
    redefined = [f"--redefine-sym={name}=engine_{name}" for name in _MEMORY_FUNCTIONS]
    removed = [f"--remove-section={name}" for name in _HOSTED]
    names = [*removed, *renamed, *redefined, f"--keep-global-symbols={keep}"]
    _run("objcopy", *names, str(joined), str(made))


def _data(path: Path) -> list[str]:
    """Sections that are written to. Raises `KernelError` for data of threads."""
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
    if any(name.startswith(_PER_THREAD) for name in found):
        raise KernelError("the kernel has thread-local data (__thread): its vCPUs are no threads")
    return [name for name in found if not name.startswith((".init_array", ".fini_array"))]


def _link(sources: Sequence[Path], flags: Sequence[str], made: Path, work: Path) -> None:
    if missing := _missing(sources[0], sources[1:]):
        raise _Missing(*missing)
    _run("gcc", "-no-pie", "-Wl,-z,noexecstack", *map(str, sources), "-o", str(made))


class _Missing(Exception):
    """Names that the kernel takes from elsewhere, and no file defines."""


def _missing(piece: Path, given: Sequence[Path]) -> list[str]:
    there = _names("--defined-only", *given)
    return [name for name in _names("-u", piece) if name not in there or not _GIVEN.fullmatch(name)]


def _wanted(missing: Iterable[str], sources: Iterable[Path]) -> KernelError:
    said = "\n".join(f"  {_used(name, sources)}" for name in missing)
    return KernelError(
        f"the kernel uses names that none of the files given here defines:\n{said}\n"
        "write stand-ins for them, in the harness or in a header of --include"
    )


def _names(which: str, *objects: Path) -> list[str]:
    """Names of objects that other objects see."""
    lines = _run("nm", "-g", which, *map(str, objects)).split("\n")
    return [line.split()[-1] for line in lines if line and not line.endswith(":")]


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
    """What it prints. Raises `KernelError` with the command's own words where it fails."""
    environment = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
    except FileNotFoundError:
        raise KernelError(
            f"{command[0]} is not installed: kernels in C are compiled here. Install gcc and "
            "binutils (Debian: apt install gcc libc6-dev)"
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise KernelError(said or f"{command[0]} ended with {done.returncode}")
    return done.stdout.decode(errors="surrogateescape")
