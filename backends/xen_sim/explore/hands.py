"""Runs by an executor of the caller's: each of its workers keeps a process that makes them.

A run has its process to itself: its chance, its clocks, its stdout. An executor's worker has a life
besides: threads that take other work, an event loop that asks for the time, names that it draws by
chance. So whatever a worker is, a thread, a process, or on a machine far away, it gives the recipes
to a process of its own that makes runs and does nothing else: a hand.

A hand says as it begins with some recipes, and then what came of them. One that had nothing to do
for a while ends, as does one whose worker is gone: it reads the end of its pipe. What dies between
those two was killed by a run.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from platform import node, python_version

from activations.errors import BackendError
from xen_sim.explore.engine import Engine, Run
from xen_sim.explore.strategies import Recipe

IDLE = 10.0
"""Seconds for which a hand waits for more."""
HASHES = "PYTHONHASHSEED"
_SERVE = "import sys; from xen_sim.explore import hands; hands.serve(int(sys.argv[1]))"


class Died(Exception):
    """A run ended the process that made it."""


Answer = list[Run] | Exception
"""Runs, or why there are none: what is raised by an executor itself is something else."""


def answered(engine: Engine, recipes: Sequence[Recipe]) -> Answer:
    """What this process makes of these."""
    try:
        with engine.session():
            return [engine.run(recipe.tape()) for recipe in recipes]
    except Exception as error:
        return _sendable(error)


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return BackendError(f"{type(error).__name__}: {error}")
    return error


@dataclass(frozen=True, slots=True)
class _Kind:
    """What an engine is made of: two that differ in this make other runs of one course."""

    python: str
    package: str

    def __str__(self) -> str:
        return f"Python {self.python} with xen-activations {self.package}"


def _kind() -> _Kind:
    return _Kind(python_version(), version("xen-activations"))


class Errand:
    """What is sent to a worker: the engine, with each share of recipes, since it may be a worker
    that has never seen it. Raises `BackendError` for an engine that cannot be pickled."""

    def __init__(self, engine: Engine) -> None:
        try:
            self._engine = pickle.dumps(engine)
        except Exception as error:
            raise BackendError(
                f"{engine.program.name} cannot be sent to an executor's workers ({error}): take it "
                "from a file, by load() or load_one(), or search with jobs, in processes of our own"
            ) from None
        self._hashes = os.environ.get(HASHES)
        self._kind = _kind()

    def __call__(self, number: int, recipes: list[Recipe]) -> Answer:
        """In a worker."""
        if (kind := _kind()) != self._kind:
            return BackendError(
                f"a worker, on {node()}, has {kind}, and this is {self._kind}: their runs are not "
                "the same ones; take workers that have the same"
            )
        try:
            return _by_a_hand(self._engine, self._hashes, recipes)
        except BackendError as error:
            return error

    def over(self) -> None:
        """The search is over: what waits for more in this process need not. Hands elsewhere see
        that by themselves."""
        for hand in iter(lambda: _waiting(self._engine, self._hashes), None):
            hand.end()


def order_of_sets() -> str:
    """Why a run may be another one in a worker, for people; empty where the order of sets is the
    same in all."""
    if os.environ.get(HASHES, "random") != "random":
        return ""
    return f"; workers may have another order of sets of strings: set {HASHES}=0"


# In a worker

_idle: list[Hand] = []
_lock = threading.Lock()


def _by_a_hand(engine: bytes, hashes: str | None, recipes: list[Recipe]) -> Answer:
    for hand in iter(lambda: _waiting(engine, hashes), None):
        if hand.begins(recipes):
            break
    else:
        hand = Hand(engine, hashes)
        if not hand.begins(recipes):
            raise BackendError(f"a process for runs did not start, on {node()}: {hand.end()}")
    try:
        answer = hand.answer()
    except BaseException:  # what it has to say is not awaited
        hand.end()
        raise
    if isinstance(answer, list):
        with _lock:
            _idle.append(hand)
    else:
        hand.end()
    return answer


def _waiting(engine: bytes, hashes: str | None) -> Hand | None:
    """A hand for these runs that was alive a moment ago."""
    with _lock:
        for hand in tuple(_idle):
            if not hand.alive():
                _idle.remove(hand)
                hand.end()
            elif hand.of == (engine, hashes):
                _idle.remove(hand)
                return hand
    return None


class Hand:
    """A process that makes runs by this engine, as its worker sees it. It can import what its
    worker can."""

    def __init__(self, engine: bytes, hashes: str | None) -> None:
        self.of: tuple[bytes, str | None] = engine, hashes
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        environment.pop(HASHES, None)
        if hashes is not None:
            environment[HASHES] = hashes
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                (sys.executable, "-P", "-c", _SERVE, str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        with suppress(OSError):  # one that did not start will not begin either
            self._pipe.send_bytes(engine)

    def alive(self) -> bool:
        return self._process.poll() is None

    def begins(self, recipes: list[Recipe]) -> bool:
        """False if it has ended before."""
        try:
            self._pipe.send(recipes)
            self._pipe.recv()
        except (OSError, EOFError):
            return False
        return True

    def answer(self) -> Answer:
        try:
            answer: Answer = self._pipe.recv()
        except (OSError, EOFError):
            return Died("a run ended its process")
        return answer

    def end(self) -> str:
        """Kill it; say how it ended."""
        self._pipe.close()
        self._process.kill()
        return f"exit status {self._process.wait()}"


# In a hand


def serve(descriptor: int) -> None:
    """A hand's life. What a program prints past `sys.stdout` is not a message: it goes to
    stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    with Connection(descriptor) as pipe, suppress(OSError, EOFError):
        _serve(pipe)


def _serve(pipe: Connection) -> None:
    """Until the other end of the pipe is closed."""
    sent = pipe.recv_bytes()
    engine: Engine | None = None
    while pipe.poll(IDLE):
        recipes: list[Recipe] = pipe.recv()
        pipe.send(None)
        try:
            engine = engine or pickle.loads(sent)
        except Exception as error:
            pipe.send(BackendError(f"on {node()}: {type(error).__name__}: {error}"))
            return
        pipe.send(answered(engine, recipes))
