"""Run a program on both worlds, compare what they say, and shrink and print what differs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from activations.abi import xs_wire
from activations.abi.xs_wire import HEADER, RING_REQ, RING_RSP, RING_SIZE, MessageType
from activations.ring import RingError
from activations.store.page import StorePage

from .program import Kind, Program, Step, c_number, messages, read
from .stored import Stored
from .world import DOMAINS, Crashed, Limits, World

Make = Callable[[Limits], World]


@dataclass(frozen=True)
class Difference:
    program: Program
    key: tuple[str, str]
    """What was done last, and what differs: alike for differences of one kind."""
    xen: str
    other: str

    def __str__(self) -> str:
        lines = [f"differs: {': '.join(self.key)}", f"{self.program.limits}"]
        lines += [f"  {read(step)}" for step in self.program.steps]
        return "\n".join([*lines, f"Xen's:   {self.xen}", f"another: {self.other}"])


class _Differs(Exception):
    def __init__(self, what: str, xen: object, other: object) -> None:
        super().__init__(what)
        self.what, self.xen, self.other = what, str(xen), str(other)


def run(library: Path, make: Make, program: Program) -> Difference | None:
    """Both do the program's steps; the first difference, if there is one."""
    xen = Stored(library, program.limits)
    at = 0
    try:
        both = _Both(xen, make(program.limits))
        for at, step in enumerate(program.steps):  # noqa: B007
            both.do(step)
        both.finish()
    except _Differs as seen:
        steps = program.steps[: at + 1]
        name = steps[-1].kind.name if steps else "start"
        return Difference(program._replace(steps=steps), (name, seen.what), seen.xen, seen.other)
    finally:
        xen.close()
    return None


class _Both:
    """The two worlds, and what the clients and guests of them are."""

    def __init__(self, xen: Stored, other: World) -> None:
        self._xen, self._other = xen, other
        self._clients: dict[int, int | None] = {}
        """Which connection of the worlds each client is, or was."""
        self._exists = {0}

    def do(self, step: Step) -> None:
        kind, who, _, data = step
        match kind:
            case Kind.ASK | Kind.PUT if self._is_unlike(step):
                return
            case Kind.CONNECT if who not in self._clients:
                self._clients[who] = len(self._clients)
                self._each(lambda world: world.connect())
            case Kind.ASK if (at := self._clients.get(who)) is not None:
                self._each(lambda world: world.ask(at, data))
            case Kind.LEAVE if (at := self._clients.get(who)) is not None:
                self._clients[who] = None
                self._each(lambda world: world.leave(at, data))
            case Kind.TAKE:
                self._take(who)
            case Kind.CREATE if who not in self._exists:
                self._exists.add(who)
                self._each(lambda world: world.create(who))
            case Kind.SHUT_DOWN if who in self._exists:
                self._each(lambda world: world.shut_down(who))
            case Kind.DESTROY if who in self._exists:
                self._exists.remove(who)
                self._each(lambda world: world.destroy(who))
            case Kind.PUT | Kind.GET | Kind.POKE if self._xen.page(who):
                self._each(lambda world: _guest(world, who, step))
        self._compare_pages()

    def finish(self) -> None:
        """All counts, all that waits, all nodes."""
        for domid in range(1, DOMAINS):
            if self._xen.page(domid):
                self._same(f"what d{domid} has", lambda world: world.account(domid))  # noqa: B023
        for client in self._clients:
            self._take(client)
        self._same("the tree", lambda world: world.tree())

    def _is_unlike(self, step: Step) -> bool:
        """What Xen's own does by chance. It goes on with memory that it has freed where a domain is
        introduced again of whose request it has read a part. And it releases a domain after it has
        said so where the domain's connection comes after that of who asks."""
        asked = [(HEADER.unpack_from(each)[0], each[HEADER.size :]) for each in _split(step.data)]
        kinds = [kind for kind, _ in asked]
        if MessageType.INTRODUCE in kinds and self._xen.is_reading():
            return True
        if MessageType.RELEASE not in kinds:
            return False
        asker = self._clients.get(step.who) if step.kind is Kind.ASK else -1
        return len(kinds) > 1 or asker is None or self._xen.next(asker) == c_number(asked[0][1])

    def _take(self, client: int) -> None:
        if (at := self._clients.get(client)) is not None:
            self._same(f"what client {client} is told", lambda world: world.take(at), _tell)
            self._same(f"whether client {client} is heard", lambda world: not world.gone(at))

    def _compare_pages(self) -> None:
        for domid in range(DOMAINS):
            ours, theirs = self._xen.page(domid), self._other.page(domid)
            if (ours is None) != (theirs is None):
                raise _Differs("which domains are introduced", ours and domid, theirs and domid)
            if ours and theirs:
                _compare_page(domid, ours, theirs)

    def _each(self, does: Callable[[World], object]) -> None:
        self._same("a crash", does, lambda _: "")

    def _same(
        self, what: str, asked: Callable[[World], object], tell: Callable[[object], str] = str
    ) -> None:
        try:
            xen = asked(self._xen)
        except Crashed as crashed:
            raise _Differs("a crash", crashed, "") from None
        try:
            other = asked(self._other)
        except Exception as error:
            raise _Differs("a crash", "", repr(error)) from error
        if xen != other:
            if isinstance(xen, list) and isinstance(other, list):
                pairs = enumerate(zip(xen, other, strict=False))
                at = next((number for number, (one, two) in pairs if one != two), -1)
                xen, other = xen[at], other[at]
            raise _Differs(what, tell(xen), tell(other))


def _guest(world: World, domid: int, step: Step) -> None:
    """What the guest does at its page: whatever its indices say."""
    memory = world.page(domid)
    assert memory
    page = StorePage(memory)
    data = step.data
    with suppress(RingError):
        match step.kind:
            case Kind.PUT:
                while (written := page.requests.write(data)) and len(data) > written:
                    data = data[written:]
                    world.kick(domid)
            case Kind.GET:
                page.responses.read(step.number)
            case _:
                memory.cast("I")[int.from_bytes(data) // 4] = step.number
    world.kick(domid)


_END = xs_wire.SERVER_FEATURES
_COMPARED = (
    ("req_cons", xs_wire.REQ_CONS),
    ("req_prod", xs_wire.REQ_PROD),
    ("rsp_cons", xs_wire.RSP_CONS),
    ("rsp_prod", xs_wire.RSP_PROD),
    ("connection", xs_wire.CONNECTION),
    ("error", xs_wire.ERROR),
)


def _compare_page(domid: int, ours: memoryview, theirs: memoryview) -> None:
    """The bytes of both rings and the indices; not what features xenstored says it has."""
    if ours[:_END].tobytes() == theirs[:_END].tobytes() and all(
        ours[at : at + 4] == theirs[at : at + 4] for _, at in _COMPARED[4:]
    ):
        return
    for name, ring in (("requests", RING_REQ), ("replies", RING_RSP)):
        one, other = bytes(ours[ring : ring + RING_SIZE]), bytes(theirs[ring : ring + RING_SIZE])
        if one != other:
            at = next(n for n in range(RING_SIZE) if one[n] != other[n])
            start = max(at - 64, 0)
            raise _Differs(
                f"d{domid}'s {name}",
                f"{one[start : at + 64]!r} at {at}",
                f"{other[start : at + 64]!r}",
            )
    for name, at in _COMPARED:
        one, other = (int.from_bytes(page[at : at + 4], "little") for page in (ours, theirs))
        if one != other:
            raise _Differs(f"d{domid}'s {name}", one, other)


def _tell(said: object) -> str:
    assert isinstance(said, bytes)
    return "; ".join(messages(said)) or "nothing"


# Shrinking

PATIENCE = 20.0
"""Seconds that a difference is shrunk at most."""


def shrunk(library: Path, make: Make, found: Difference) -> Difference:
    """A shorter program that differs in the same kind of answer."""
    end, best, before = time.monotonic() + PATIENCE, [found], None
    while before != best[-1].program:
        before = best[-1].program
        for smaller in _smaller(lambda: best[-1].program):
            if time.monotonic() > end:
                return best[-1]
            seen = run(library, make, smaller)
            if seen and _alike(seen.key, found.key):
                best.append(seen)
    return best[-1]


def _alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """The same kind of answer, whoever's it is."""
    plain = ["".join(c for c in " ".join(key[1:]) if not c.isdigit()) for key in (one, other)]
    return plain[0] == plain[1]


def _smaller(program: Callable[[], Program]) -> Iterator[Program]:
    """Without some steps: half of them, then smaller parts; then with fewer requests in a step."""
    part = max(len(program().steps) // 2, 1)
    while part:
        at = 0
        while at < len(program().steps):
            steps, tried = program().steps, program()
            yield program()._replace(steps=[*steps[:at], *steps[at + part :]])
            if program() == tried:
                at += part
        part //= 2
    for at in range(len(program().steps)):
        yield from _fewer_requests(program, at)


def _fewer_requests(program: Callable[[], Program], at: int) -> Iterator[Program]:
    step = program().steps[at] if at < len(program().steps) else Step(Kind.TAKE)
    whole = list(_split(step.data)) if step.kind in (Kind.ASK, Kind.PUT) else []
    for leave in range(len(whole) if len(whole) > 1 else 0):
        steps = list(program().steps)
        if at < len(steps) and steps[at] == step:
            steps[at] = step._replace(data=b"".join(whole[:leave] + whole[leave + 1 :]))
            yield program()._replace(steps=steps)


def _split(data: bytes) -> Iterator[bytes]:
    while len(data) >= HEADER.size:
        end = HEADER.size + HEADER.unpack_from(data)[3]
        yield data[:end]
        data = data[end:]
