"""Several domains described in one file.

A `Scenario` is data: names of domains and the coroutine function each one runs. It knows no
backend; a backend runs it. The halves find each other as on any Xen, through xenstore.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar, Unpack

from activations import registry
from activations.errors import DomainFailed, ScenarioError
from activations.lower import Clock
from activations.outcome import Observer, Outcome, RunKeywords, RunOptions

if TYPE_CHECKING:
    from activations.domain import Domain

Main = Callable[["Domain"], Awaitable[Any]]
MainT = TypeVar("MainT", bound=Main)
Kind = Literal["dom0", "pvh", "pv"]


class Half(NamedTuple):
    """One domain of a scenario: its name, its kind of guest, what it runs, and whether a fault may
    kill it (None for guests alone)."""

    name: str
    kind: Kind
    main: Main
    restart: bool | None = None


class Scenario:
    """Domains that run together.

    `halves` keeps the order in which they were declared, which is the order in which the
    simulator starts them. The domain called `dom0` is the control domain, with domid 0; the
    others are guests, numbered from 1 in that order by the simulator (a real Xen numbers its own).

    `clock` is the simulator's, unless the run names another: `wall` for halves that have to do with
    the real world, as with sockets.
    """

    def __init__(self, name: str, *, clock: Clock = "virtual") -> None:
        self.name = name
        self.clock = clock
        self.halves: dict[str, Half] = {}
        self.path: Path | None = None
        """The file it was loaded from, where it was."""

    def __repr__(self) -> str:
        return f"<Scenario {self.name!r}: {', '.join(self.halves) or 'no domains'}>"

    def domain(
        self, name: str, *, kind: Kind | None = None, restart: bool | None = None
    ) -> Callable[[MainT], MainT]:
        """Declare a domain; the decorated coroutine function is what it runs.

        `kind` is `pvh` (the default) or `pv` for a guest; the simulator treats them alike.
        `restart` says to the explorer's faults whether they may kill it (docs/explorer.md): where
        nothing is said a guest they may, and dom0's program not.

        Raises `ScenarioError` for a name that is taken, and where no name is given.
        """
        if not isinstance(name, str):
            raise ScenarioError(
                f"a domain of scenario {self.name!r} has no name: write "
                f'@{self.name}.domain("guest"), or "dom0"'
            )
        if name in self.halves:
            raise ScenarioError(f"scenario {self.name!r} has two domains called {name!r}")

        def declare(main: MainT) -> MainT:
            guest: Kind = "dom0" if name == "dom0" else kind or "pvh"
            self.halves[name] = Half(name, guest, main, restart)
            return main

        return declare

    def half(self, name: str) -> Half:
        """The half of this name; `ScenarioError` lists the names there are."""
        try:
            return self.halves[name]
        except KeyError:
            known = ", ".join(self.halves) or "none"
            raise ScenarioError(
                f"scenario {self.name!r} has no domain {name!r}; it has: {known}"
            ) from None

    def run(
        self,
        backend: str = "sim",
        *,
        observer: Observer | None = None,
        **options: Unpack[RunKeywords],
    ) -> dict[str, Any]:
        """Run all halves; give what each returned. Options are those of `RunOptions`.

        Raises `DomainFailed` with the tracebacks if a half raised, `BackendError` if the
        scenario cannot run there.
        """
        outcome = self.outcome(backend, observer=observer, **options)
        if outcome.failures:
            raise DomainFailed(outcome.failures)
        return outcome.results

    def outcome(
        self,
        backend: str = "sim",
        *,
        observer: Observer | None = None,
        **options: Unpack[RunKeywords],
    ) -> Outcome:
        """As `run`, but failures are reported in the outcome instead of raised."""
        if not self.halves:
            raise ScenarioError(f"scenario {self.name!r} has no domains")
        found = registry.find(backend)
        outcome: Outcome = found.run(self, RunOptions(**options), observer or Silent())
        return outcome


class Silent:
    """An observer that lets output through and says nothing of its own."""

    def progress(self, text: str) -> None:
        pass

    def line(self, domain: str, text: str) -> None:
        print(f"[{domain}] {text}")


def load(target: str) -> Scenario:
    """The scenario in a file, named `FILE` or, where it holds several, `FILE::NAME`.

    Raises `ScenarioError` when the file is missing, cannot be imported (chained to what it
    raised), or does not hold exactly one scenario that fits.
    """
    return load_one(target, Scenario)


def load_one(target: str, *kinds: type[HeldT]) -> HeldT:
    """As `load`, for what else a file may hold at its top level, by its `name`. Of several, the one
    that is called as the file is goes by `FILE`."""
    file, _, wanted = target.partition("::")
    path = Path(file)
    found = _held(path, kinds)
    if not found:
        raise ScenarioError(
            f"{file} holds no scenario: it needs a module-level `activations.Scenario(...)`"
        )
    if wanted and wanted not in found:
        raise ScenarioError(f"{file} has no scenario {wanted!r}; it has: {', '.join(found)}")
    if not wanted and len(found) > 1 and path.stem not in found:
        raise ScenarioError(
            f"{file} holds {len(found)} scenarios: name one as {file}::NAME, "
            f"NAME one of {', '.join(found)}"
        )
    one = found.get(wanted or path.stem) or next(iter(found.values()))
    one.path = path.resolve()
    return one


def names(path: Path) -> list[str]:
    """The names of the scenarios in a file, in the order in which they stand there."""
    return list(_held(path, (Scenario,)))


class Held(Protocol):
    """What a file holds at its top level."""

    path: Path | None
    """That file, once it was loaded from there."""

    @property
    def name(self) -> str: ...


HeldT = TypeVar("HeldT", bound=Held)


def _held(path: Path, kinds: tuple[type[HeldT], ...]) -> dict[str, HeldT]:
    if why := _unfit(path):
        raise ScenarioError(f"{path}: {why}")
    return {each.name: each for each in vars(_import(path)).values() if isinstance(each, kinds)}


def _unfit(path: Path) -> str | None:
    """Why it is not a file that can be imported, and what was meant, as far as one can see."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "no such file" + _meant(path)
    except OSError as error:
        return error.strerror
    if S_ISDIR(mode):
        return "a folder: name a file in it"
    return None if S_ISREG(mode) else "not a regular file, and cannot be imported"


def _meant(path: Path) -> str:
    file, colon, name = str(path).rpartition(":")
    if colon and Path(file).is_file():
        return f": a scenario of {file} is named with two colons, {file}::{name}"
    if path.name and (with_suffix := path.with_name(f"{path.name}.py")).is_file():
        return f": is it {with_suffix}?"
    return ""


class _AsItStands(SourceFileLoader):
    """What is in the file now. Python trusts bytecode that has the file's second and size, and
    a file that was written twice may have both."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return _compiled(path, self.get_data(path))


def compile_ahead(path: Path) -> None:
    """Compile a file once, for all children of this process that will load it."""
    _compiled(str(path), path.read_bytes())


@lru_cache(maxsize=64)
def _compiled(path: str, source: bytes) -> CodeType:
    code: CodeType = compile(source, path, "exec", dont_inherit=True)
    return code


def _import(path: Path) -> Any:
    """Import a file as a module of its own, its folder importable as for a script."""
    name = f"scenario_{path.stem}"
    loader = _AsItStands(name, str(path.absolute())) if path.suffix == ".py" else None
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise ScenarioError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # `pytest.skip` and a cancelled task are no `Exception`
        raise ScenarioError(f"{path}: {type(error).__name__} on import: {error}") from error
    finally:
        sys.path.remove(folder)
    return module
