"""xenstored against a dict: the same answers, and transactions that are as if alone.

A transaction whose commit succeeds must have given the answers it would have given had all of it
happened in the moment of the commit; and a commit may fail only if somebody else changed
something meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from errno import errorcode

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.xenstored_client import Client

from activations.store import StoreError
from xen_sim.xenstored import Xenstored
from xen_sim.xenstored.paths import child, parent

PATHS = ["/a", "/b", "/a/c", "/a/d", "/a/c/e", "/b/f"]
paths = st.sampled_from(PATHS)
Answer = object
Step = tuple[str, str, bytes]


class Model:
    """What a store is: paths and values, and a parent for each."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {"/": b"", "/tool": b"", "/tool/xenstored": b""}

    def do(self, name: str, path: str, value: bytes) -> Answer:
        match name:
            case "read":
                return self.values.get(path, "ENOENT")
            case "list":
                if path not in self.values:
                    return "ENOENT"
                below = [p for p in self.values if p != "/" and parent(p) == path]
                return sorted(p.rpartition("/")[2] for p in below)
            case "rm" if path not in self.values and parent(path) not in self.values:
                return "ENOENT"
            case "rm":
                for gone in [p for p in self.values if f"{p}/".startswith(f"{path}/")]:
                    del self.values[gone]
            case _:
                if name == "write" or path not in self.values:
                    self.values[path] = value
                while (path := parent(path)) not in self.values:
                    self.values[path] = b""
        return None


def ask(client: Client, name: str, path: str, value: bytes) -> Answer:
    try:
        match name:
            case "read":
                return client.read(path)
            case "list":
                return sorted(client.list(path))
            case "rm":
                client.rm(path)
            case "mkdir":
                client.mkdir(path)
            case "write":
                client.write(path, value)
    except StoreError as error:
        return errorcode[error.errno or 0]  # EIO and EINVAL only where others have spoilt it
    return None


@dataclass
class Open:
    number: int
    changes_before: int
    steps: list[tuple[Step, Answer]] = field(default_factory=list)


names = st.sampled_from(["read", "list", "rm", "mkdir", "write"])


def step_of(name: str, path: str, value: int) -> Step:
    return name, path, b"" if name == "mkdir" else str(value).encode()


class StoreAgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.client = Client(Xenstored())
        self.model = Model()
        self.transactions: list[Open] = []
        self.changes = 0

    @rule(name=names, path=paths, value=st.integers(0, 3))
    def outside(self, name: str, path: str, value: int) -> None:
        step = step_of(name, path, value)
        before = dict(self.model.values)
        assert ask(self.client, *step) == self.model.do(*step)
        self.changes += name == "write" or before != self.model.values

    @precondition(lambda self: len(self.transactions) < 3)
    @rule()
    def begin(self) -> None:
        self.transactions.append(Open(self.client.begin(), self.changes))

    @precondition(lambda self: self.transactions)
    @rule(which=st.integers(0, 2), name=names, path=paths, value=st.integers(0, 3))
    def within(self, which: int, name: str, path: str, value: int) -> None:
        transaction = self.transactions[which % len(self.transactions)]
        step = step_of(name, path, value)
        self.client.tx_id = transaction.number
        transaction.steps.append((step, ask(self.client, *step)))
        self.client.tx_id = 0

    @precondition(lambda self: self.transactions)
    @rule(which=st.integers(0, 2))
    def abort(self, which: int) -> None:
        transaction = self.transactions.pop(which % len(self.transactions))
        self.client.end(transaction.number, "F")

    @precondition(lambda self: self.transactions)
    @rule(which=st.integers(0, 2))
    def commit(self, which: int) -> None:
        transaction = self.transactions.pop(which % len(self.transactions))
        try:
            self.client.end(transaction.number)
        except StoreError:
            assert transaction.changes_before != self.changes, "a conflict with nobody"
            return
        before = dict(self.model.values)
        for step, answer in transaction.steps:
            assert self.model.do(*step) == answer, f"{step} was not as if alone"
        wrote = any(step[0] == "write" for step, _ in transaction.steps)
        self.changes += wrote or before != self.model.values or bool(transaction.steps)

    @invariant()
    def the_stores_are_alike(self) -> None:
        seen: dict[str, bytes] = {}
        waiting = ["/"]
        while waiting:
            path = waiting.pop()
            seen[path] = self.client.read(path)
            waiting += [child(path, name) for name in self.client.list(path)]
        assert seen == self.model.values


StoreAgainstDict.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
TestStoreAgainstDict = StoreAgainstDict.TestCase
