"""Debian packages, fetched and unpacked without root and without installing anything.

`apt-get download` checks signatures and hashes. It is asked first with the machine's own package
lists, which costs nothing; when those are missing or stale, with lists of our own, fetched into
the cache folder from the machine's own sources. Where the machine is not a Debian 12,
`ACTIVATIONS_LAB_SOURCES` names the sources of one: its packages run anywhere, since they are
never installed. apt is shown an empty status file throughout, so that what happens to be installed
here has no say.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from activations.errors import BackendError
from xen_lab.process import end_with_parent

T = TypeVar("T")

RELEASE = "bookworm"
OS_RELEASE = Path("/etc/os-release")
SOURCES = "ACTIVATIONS_LAB_SOURCES"
"""Environment variable: the path of an apt sources.list of Debian 12."""
NAME_SOURCES = f"write a sources.list of Debian 12 and name it: {SOURCES}=FILE activations run ..."
"""What mends it where the machine is another release."""
TIMEOUT = 900.0
"""Seconds for one run of apt-get: 150 MB over a slow line."""


def fetch(names: Sequence[str], into: Path, state: Path, *, fresh: bool = False) -> dict[str, Path]:
    """Download packages into a folder; give each one's file by its name.

    `state` is a folder for apt's own lists and caches. With `fresh`, no list is believed that was
    not fetched now. Raises `BackendError` naming the package and the command to try.
    """
    return _attempt(state, fresh, lambda apt: apt.download(names, into))


def fetch_with_dependencies(
    name: str, into: Path, state: Path, *, fresh: bool = False
) -> dict[str, Path]:
    """As `fetch`, for a package and all that it depends on, down to the C library."""
    return _attempt(state, fresh, lambda apt: apt.download_closure(name, into))


def fetch_source(name: str, into: Path, state: Path) -> list[Path]:
    """As `fetch`, for a source package: give its files, the upstream's sources among them.

    It is the release's own version: not every mirror has the sources of its security updates.
    """
    return _attempt(state, False, lambda apt: apt.download_source(name, into))


def dependencies(name: str, state: Path, *, fresh: bool = False) -> list[str]:
    """The packages that one names under Depends, without theirs."""
    return _attempt(state, fresh, lambda apt: apt.depends(name))


def newest(names: Sequence[str], state: Path) -> dict[str, str]:
    """The version of each package that a fresh `fetch` would download."""
    return _attempt(state, True, lambda apt: apt.listed("download", *names))


def newest_with_dependencies(name: str, state: Path) -> dict[str, str]:
    """As `newest`, for a package and all that it depends on."""
    return _attempt(state, True, lambda apt: apt.listed(*CLOSURE, name))


def sources() -> str:
    """Whose packages are taken, in words; empty where the sources do not say."""
    if _codename() == RELEASE:
        return "this machine's sources"
    return os.environ.get(SOURCES, "")


def version(package: Path) -> str:
    """The version in a package's file name, as `name_version_architecture.deb`."""
    return unquote(package.name).split("_")[1]


def unpack(package: Path, into: Path) -> None:
    """Unpack a package's files below a folder. Raises `BackendError` if it is damaged."""
    done = _run(["dpkg-deb", "-x", str(package), str(into)], {})
    if done.returncode:
        raise BackendError(f"cannot unpack {package.name}: {done.stderr.strip()}")


CLOSURE = ("-y", "-d", "--no-install-recommends", "install")


_LINE = re.compile(r"^deb(?=\s)", re.MULTILINE)
_TYPES = re.compile(r"^Types:.*", re.MULTILINE | re.IGNORECASE)
"""What says in either form of sources that packages, not their sources, are meant."""


class _Refused(Exception):
    """apt-get said no; the next way may do better."""


class _Apt:
    """apt-get and apt-cache under one set of options."""

    def __init__(self, state: Path, options: Mapping[str, str], lists: Path | None = None) -> None:
        self._state = state
        self._places = options
        self._lists = lists
        self._options = {
            "APT::Sandbox::User": "root",  # no privileges to drop, and no warning about it
            "Dir::State::status": str(state / "status"),
            "Dir::Cache": str(state / "cache"),
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "Debug::NoLocking": "true",
            **({"Dir::State::lists": str(lists)} if lists else {}),
            **options,
        }

    def run(self, *command: str, cwd: Path | None = None) -> str:
        done = _run(command, self._options, cwd)
        if done.returncode:
            raise _Refused(done.stderr.strip() or f"{command[0]}: exit status {done.returncode}")
        return done.stdout

    def update(self, fresh: bool) -> None:
        """Fetch the lists, where they are our own. What is missing afterwards shows when a package
        is asked for; what is merely old does not, so `fresh` lets nothing pass."""
        if self._lists is None:
            return
        (self._lists / "partial").mkdir(parents=True, exist_ok=True)
        command = ("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update")
        if fresh:
            self.run(*command)
        else:
            _run(command, self._options)

    def download(self, names: Sequence[str], into: Path) -> dict[str, Path]:
        self.run("apt-get", "-q", "download", *names, cwd=into)
        return _by_name(into.glob("*.deb"))

    def download_closure(self, name: str, into: Path) -> dict[str, Path]:
        (into / "partial").mkdir(exist_ok=True)
        self._options["Dir::Cache::archives"] = f"{into}/"
        self.run("apt-get", "-q", *CLOSURE, name)
        return _by_name(into.glob("*.deb"))

    def download_source(self, name: str, into: Path) -> list[Path]:
        apt = self._for_sources()
        apt.update(fresh=False)
        try:
            apt.run("apt-get", "-q", "source", "--download-only", f"{name}/{RELEASE}", cwd=into)
        except _Refused:
            apt.update(fresh=True)  # if it is for the lists, this says why
            raise
        return sorted(into.iterdir())

    def _for_sources(self) -> _Apt:
        """apt for the source packages of the same archives, of which machines seldom have lists."""
        asked = ("lines", "Dir::Etc::sourcelist/f", "folder", "Dir::Etc::sourceparts/d")
        said = shlex.split(self.run("apt-config", "shell", *asked))
        lines, folder = (Path(each.partition("=")[2]) for each in said)
        place = self._state / "source-packages"
        (place / "parts").mkdir(parents=True, exist_ok=True)
        old = "\n".join(_texts(lines, *folder.glob("*.list")))
        new = "\n\n".join(_texts(*folder.glob("*.sources")))
        (place / "sources.list").write_text(_LINE.sub("deb-src", old))
        (place / "parts" / "all.sources").write_text(_TYPES.sub("Types: deb-src", new))
        places = {
            "Dir::Etc::sourcelist": str(place / "sources.list"),
            "Dir::Etc::sourceparts": str(place / "parts"),
        }
        return _Apt(self._state, {**self._places, **places}, place / "lists")

    def listed(self, *command: str) -> dict[str, str]:
        """The version of each package that a command would download, by its name."""
        listing = self.run("apt-get", "-q", "--print-uris", *command)
        files = re.findall(r"^'\S+' (\S+\.deb) ", listing, re.MULTILINE)
        return {name: version(file) for name, file in _by_name(map(Path, files)).items()}

    def depends(self, name: str) -> list[str]:
        listing = self.run("apt-cache", "depends", name)
        found = re.findall(r"^\s+Depends: ([^<\s]+)$", listing, re.MULTILINE)
        if not found:
            raise _Refused(f"E: Unable to locate package {name}")
        return found


def _attempt(state: Path, fresh: bool, action: Callable[[_Apt], T]) -> T:
    """Do it with the machine's lists, unless they have to be fresh, or else with our own."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise BackendError(
            "the lab is made from Debian's packages and finds no apt-get and dpkg-deb here; "
            "on another distribution install them (Fedora: dnf install apt dpkg) or run in a "
            "Debian container: docker run -it debian:12"
        )
    refusals: list[str] = []
    state.mkdir(parents=True, exist_ok=True)
    for apt in _ways(state, fresh):
        try:
            apt.update(fresh)
            return action(apt)
        except _Refused as refused:
            refusals.append(str(refused))
    raise BackendError(_explain(refusals))


def _ways(state: Path, fresh: bool) -> Iterator[_Apt]:
    """The ways to reach the packages, the cheapest first."""
    (state / "cache").mkdir(exist_ok=True)
    (state / "status").touch()
    if _codename() == RELEASE:
        if not fresh:
            yield _Apt(state, {})
        yield _Apt(state, {}, state / "sources-here" / "lists")
    if sources := os.environ.get(SOURCES):
        places = {
            "Dir::Etc::sourcelist": str(Path(sources).resolve()),
            "Dir::Etc::sourceparts": "-",
        }
        yield _Apt(state, places, state / "sources-named" / "lists")


def _codename() -> str:
    try:
        found = re.search(r"^VERSION_CODENAME=(\S+)", OS_RELEASE.read_text(), re.MULTILINE)
    except OSError:
        return ""
    return found[1].strip("\"'") if found else ""


def _explain(refusals: Sequence[str]) -> str:
    """One sentence from what apt said, naming the package and the command to try."""
    if not refusals:
        return (
            f"the lab is made from Debian 12 ({RELEASE}) packages, and this machine is another "
            f"release: {NAME_SOURCES}"
        )
    errors = re.findall(r"^E: (.*)$", refusals[-1], re.MULTILINE) or [refusals[-1]]
    return (
        f"cannot fetch the lab's packages: {'; '.join(errors[:3])}. "
        "Is the network there? Try: apt-get update"
    )


def _texts(*files: Path) -> list[str]:
    """What these files say, as far as they are there."""
    return [file.read_text() for file in files if file.is_file()]


def _by_name(packages: Iterable[Path]) -> dict[str, Path]:
    return {package.name.split("_")[0]: package for package in sorted(packages)}


def _run(
    command: Sequence[str], options: Mapping[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    try:
        return subprocess.run(
            [command[0], *words, *command[1:]],
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            preexec_fn=end_with_parent,
        )
    except subprocess.TimeoutExpired:
        raise BackendError(f"{command[0]} did not end within {TIMEOUT:.0f} s") from None
