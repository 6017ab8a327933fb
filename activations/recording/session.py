"""A program under a journal: recorded on its own domain, or replayed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings

from activations.errors import BackendError, LeakWarning
from activations.lower import LowerHalf
from activations.own import own_tasks
from activations.recording.chance import by_journal
from activations.recording.form import Header, RecordingError, read
from activations.recording.journal import Differs, Noting, Reading
from activations.recording.loop import RecordedLoop
from activations.recording.seam import JournalHalf
from activations.running import program

if TYPE_CHECKING:
    from activations.domain import Domain
    from activations.scenario import Scenario

HASHES = "PYTHONHASHSEED"
ENDED, INTERRUPTED = "ended", "interrupted"
"""How a run was over: by itself, or by Ctrl-C."""
TURNS = 1000
"""For tasks to end, when a replay goes no further."""


class Recorder:
    """Records one run of one half. `write` takes the file's bytes as they are made."""

    def __init__(
        self, write: Callable[[bytes], object], scenario: str, path: str, half: str
    ) -> None:
        header = {
            "scenario": scenario,
            "file": path,
            "half": half,
            "python": sys.version.split()[0],
            "hashes": os.environ.get(HASHES),
            "debug": bool(os.environ.get("PYTHONASYNCIODEBUG")) or sys.flags.dev_mode,
        }
        self.journal: Noting = Noting(write, header)
        self._name = half

    @contextmanager
    def running(self) -> Iterator[Recorder]:
        """Inside the block the half runs, and ends."""
        with by_journal(self.journal, replayed=False):
            how = INTERRUPTED
            try:
                yield self
                how = ENDED
            except Exception:
                how = ENDED
                raise
            finally:
                self.journal.end(how)

    def make_loop(self, lower: LowerHalf) -> RecordedLoop:
        """A loop on this lower half, of which everything is noted."""
        half = JournalHalf(self.journal, lower, self._name)
        loop = RecordedLoop(half)
        half.resumed = loop.domain._new_generation
        return loop


@contextmanager
def recorded(path: Path, scenario: Scenario, half: str) -> Iterator[Recorder]:
    """Inside the block a half of this scenario runs, and is recorded in this file. Raises
    `BackendError` where that cannot be written."""

    def lost(error: OSError) -> BackendError:
        return BackendError(f"the recording is lost: {path}: {error.strerror}")

    def write(data: bytes) -> None:
        try:
            file.write(data)
        except OSError as error:
            raise lost(error) from None

    try:
        file = path.open("wb", buffering=0)
    except OSError as error:
        raise lost(error) from None
    with file, Recorder(write, scenario.name, str(scenario.path or ""), half).running() as it:
        yield it


class Recording:
    """A recording that was read. Raises `RecordingError` for what is none."""

    def __init__(self, path: Path) -> None:
        self.header: Header
        self.header, self._events = read(path)
        self.path = path

    @property
    def target(self) -> str:
        """The scenario, as `activations.scenario.load` takes it."""
        return f"{self.header['file']}::{self.header['scenario']}"

    @property
    def half(self) -> str:
        return str(self.header["half"])

    def replay(self, main: Callable[[Domain], Awaitable[Any]]) -> Any:
        """Run this once more, in this process; give what it returned, or raise what it raised.

        Raises `RecordingError` where it does something else than when it was recorded, with what
        and where, and `Interrupted` where the recorded run was ended by Ctrl-C.
        """
        journal = Reading(self._events)
        made: list[tuple[RecordedLoop, JournalHalf]] = []

        def make_loop() -> RecordedLoop:
            half = JournalHalf(journal, None, self.half)
            loop = RecordedLoop(half)
            made.append((loop, half))
            half.resumed = loop.domain._new_generation
            loop.set_exception_handler(_tell_of_others)
            return loop

        runner = asyncio.Runner(loop_factory=make_loop, debug=self.header["debug"])
        error: BaseException | None = None
        value: Any = None
        with by_journal(journal, replayed=True):
            try:
                loop = runner.get_loop()
                assert isinstance(loop, RecordedLoop)
                value = runner.run(program(main, loop.domain))
            except Differs:
                pass
            except (Exception, SystemExit) as raised:
                error = raised
            finally:
                if journal.over is None:
                    with suppress(Differs):
                        runner.close()
                if journal.over is not None:
                    for each in made:
                        _let_go(runner, *each, journal)
        if journal.over is None and not journal.done:
            with suppress(Differs):
                journal.stop("the program is over")
        if journal.over is not None:
            self._differs(journal)
        if error is not None:
            raise error
        return value

    def _differs(self, journal: Reading) -> None:
        said = str(journal.over)
        if journal.end == INTERRUPTED:
            raise Interrupted(f"replayed as far as Ctrl-C ended the run that was recorded: {said}")
        if os.environ.get(HASHES) != self.header["hashes"]:
            said += (
                f". Sets of strings have another order in each process: set {HASHES} to the same "
                "number when you record and when you replay"
            )
        raise RecordingError(f"{self.path} does not fit {self.target}: {said}")


def _tell_of_others(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """That a replay goes no further is told once, and not of each task."""
    if not isinstance(context.get("exception"), Differs):
        loop.default_exception_handler(context)


class Interrupted(RecordingError):
    """A replay came as far as there is something to replay."""


def _let_go(
    runner: asyncio.Runner, loop: RecordedLoop, half: JournalHalf, journal: Reading
) -> None:
    """A replay goes no further: end its tasks, which are told nothing any more, and its loop."""
    if loop.is_closed():
        return
    half.last_turns = TURNS
    tasks = asyncio.all_tasks(loop) | own_tasks(loop)
    for task in tasks:
        task.cancel()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    with suppress(Differs):
        loop.run_until_complete(asyncio.wait(tasks)) if tasks else None
    journal.quiet = True
    with suppress(Differs), catch_warnings(action="ignore", category=LeakWarning):
        runner.close()
