"""One program on Xen's own C and on another World: the first difference, shrunk and told.

The loop in `run` is what a million steps go through. It hands a step to the other World, then to
`oracle_check`, which does it on Xen and compares all that `world` names, in C.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from activations.abi.event_channel import DOMID_SELF, Op

from .program import LAST_OF_A_GUEST, Kind, Program, Step, command_name, encoded, read
from .tell import tell_bytes, tell_result, tell_state, tell_where
from .world import Domain, World
from .xen import ARGUMENT, CRASH, MEMORY, RESULT, SIGNALS, Crashed, Library, Xen

Make = Callable[[Sequence[Domain], int], World]
"""Makes the World that is compared with Xen's C."""


class Difference(NamedTuple):
    """Where a program first went another way than on Xen's C."""

    program: Program
    """Its steps end with the one that showed it."""
    key: tuple[str, ...]
    """What kind of step it was, and what kind of answer: the same fault has the same."""
    xen: str
    other: str
    states: str
    """What both looked like then, one under the other."""

    def __str__(self) -> str:
        domains = ", ".join(f"d{n} {domain}" for n, domain in enumerate(self.program.domains))
        steps = "\n".join(f"  {read(step)}" for step in self.program.steps)
        return (
            f"differs: {', '.join(self.key)}\n{domains}, {self.program.frames} frames each\n"
            f"{steps}\nXen's C:  {self.xen}\nanother:  {self.other}\n{self.states}"
        )


def run(library: Library, make: Make, program: Program) -> Difference | None:
    """Do a program on both, until it differs or ends."""
    comparison = _Comparison(library, make, program)
    try:
        comparison.run()
    except Crashed as crash:
        comparison.seen = "crash", str(crash), ""
    except Exception as error:
        comparison.seen = "exception", "", repr(error)
    return comparison.difference() if comparison.seen else None


Seen = tuple[str, str, str]
"""What kind of answer differs, and both answers."""


class _Comparison:
    """A program under way on both."""

    def __init__(self, library: Library, make: Make, program: Program) -> None:
        self._library = library
        self._program = program
        self._xen = Xen(library, program.domains, program.frames)
        self._other = make(program.domains, program.frames)
        self._xen.watch(self._other, len(program.domains))
        self._first = [0, *accumulate(domain.vcpus for domain in program.domains)]
        self._gone: set[int] = set()
        self._listened: list[list[int]] = [[] for _ in program.domains]
        self._argument = bytearray()
        self.index = 0
        self.seen: Seen | None = None

    def run(self) -> None:
        """Do the steps, up to the first that shows something (`seen`)."""
        program, other = self._program, self._other
        check, code = self._library.check, encoded(program.steps)
        first, signals, gone = self._first, other.signals, self._gone
        hypercall, written = other.event_channel_op, self._library.other_argument
        others = self._others()
        for index, (kind, domain, vcpu, number, data) in enumerate(program.steps):
            if domain in gone:
                continue
            self.index = index
            if kind <= LAST_OF_A_GUEST and signals[3 * (first[domain] + vcpu) + 2]:
                other.wake(domain, vcpu)
            if kind == 0:
                argument = bytearray(data)
                result = hypercall(domain, vcpu, number, argument)
                written[: len(data)] = argument
            else:
                result = others[kind](domain, vcpu, number, data) or 0
            found = check(code, index, result)
            if found and self._differs(found, result):
                return
            if program.thorough and self._differs_anywhere():
                return
        self._differs_anywhere()

    def _others(self) -> list[Callable[[int, int, int, bytes], int | None]]:
        """What the other World does in a step, by its kind."""
        other, listened = self._other, self._listened

        def poll(domain: int, vcpu: int, number: int, data: bytes) -> int:
            given = struct.unpack(f"<{len(data) // 4}I", data) or (0,)
            return other.poll(domain, vcpu, [given[i % len(given)] for i in range(number)])

        def listen(domain: int, vcpu: int, remote: int, _: bytes) -> int:
            if len(listened[domain]) == 8:
                return 0
            port = other.listen(domain, vcpu, remote)
            if port > 0:
                listened[domain].append(port)
            return port

        def notify(domain: int, _: int, which: int, __: bytes) -> None:
            if ports := listened[domain]:
                other.notify(domain, ports[which % len(ports)])

        def silence(domain: int, _: int, which: int, __: bytes) -> None:
            if ports := listened[domain]:
                other.silence(domain, ports.pop(which % len(ports)))

        def suspend(domain: int, _: int, __: int, ___: bytes) -> None:
            listened[domain].clear()
            other.suspend(domain)

        def destroy(domain: int, _: int, __: int, ___: bytes) -> None:
            self._gone.add(domain)
            other.destroy(domain)

        does: dict[Kind, Callable[[int, int, int, bytes], int | None]] = {
            Kind.EVENT_CHANNEL_OP: lambda *_: None,
            Kind.POLL: poll,
            Kind.BLOCK: lambda domain, vcpu, *_: other.block(domain, vcpu),
            Kind.INTERRUPTS: lambda domain, vcpu, on, _: other.interrupts(domain, vcpu, bool(on)),
            Kind.STORE: lambda *_: None,
            Kind.CONSUME: lambda domain, vcpu, *_: other.acknowledge(domain, vcpu),
            Kind.RAISE_VIRQ: lambda domain, vcpu, virq, _: other.raise_virq(domain, vcpu, virq),
            Kind.RAISE_GLOBAL_VIRQ: lambda _, __, virq, ___: other.raise_global_virq(virq),
            Kind.HANDLE_VIRQ: lambda domain, _, virq, __: other.handle_virq(domain, virq),
            Kind.RAISE_PIRQ: lambda domain, _, pirq, __: other.raise_pirq(domain, pirq),
            Kind.LISTEN: listen,
            Kind.NOTIFY: notify,
            Kind.SILENCE: silence,
            Kind.PAUSE: lambda domain, *_: other.pause(domain),
            Kind.UNPAUSE: lambda domain, *_: other.unpause(domain),
            Kind.SUSPEND: suspend,
            Kind.DESTROY: destroy,
            Kind.WAKE: lambda domain, vcpu, *_: other.wake(domain, vcpu),
        }
        return [does[kind] for kind in Kind]

    # What differs

    def _differs(self, found: int, result: int) -> bool:
        library = self._library
        if found & CRASH:
            raise library.crash()
        if found & RESULT:
            self.seen = "result", tell_result(library.result), tell_result(result)
        elif found & ARGUMENT:
            size = len(self._program.steps[self.index].data)
            ours, theirs = library.argument[:size], library.other_argument[:size]
            self.seen = "argument", tell_bytes(ours), tell_bytes(theirs)
        elif found & MEMORY:
            self._see_memory()
        elif found & SIGNALS:
            self._see_signals()
        else:
            self._see_changed()
        return self.seen is not None

    def _differs_anywhere(self) -> bool:
        """All frames, all ports' states."""
        if self._library.compare(True) & MEMORY:
            self._see_memory()
            return True
        return any(
            self._see_status(domain, port)
            for domain in self._alive()
            for port in self._library.ports(domain)
        )

    def _alive(self) -> Iterator[int]:
        return (n for n in range(len(self._program.domains)) if n not in self._gone)

    def _see_changed(self) -> None:
        changed = self._library.changed
        many = min(self._library.changes.value, len(changed) // 2)
        for at in range(0, 2 * many, 2):
            if self._see_status(changed[at], changed[at + 1]):
                return

    def _see_status(self, domain: int, port: int) -> bool:
        argument = bytearray(_STATUS.pack(DOMID_SELF, 0xA5A5, port, *[0xA5A5_A5A5] * 4))
        result = self._other.event_channel_op(domain, 0, Op.STATUS, argument)
        expected = self._library.status(domain, port)
        written = self._library.argument[: len(argument)]
        if result == expected and argument == written:
            return False
        ours = f"{tell_result(expected)} {tell_bytes(written)}"
        theirs = f"{tell_result(result)} {tell_bytes(argument)}"
        self.seen = f"status of d{domain}'s port {port}", ours, theirs
        return True

    def _see_memory(self) -> None:
        for domain in self._alive():
            pages = zip(self._xen.memory(domain), self._other.memory(domain), strict=True)
            for page, (ours, theirs) in enumerate(pages):
                for at in range(0, len(ours), 4):
                    if ours[at : at + 4] != theirs[at : at + 4]:
                        where = tell_where(domain, page, at)
                        both = [
                            int.from_bytes(each[at : at + 4], "little") for each in (ours, theirs)
                        ]
                        self.seen = where, f"{both[0]:#010x}", f"{both[1]:#010x}"
                        return

    def _see_signals(self) -> None:
        names = ["upcalls", "events Xen consumed", "asleep"]
        for domain, (first, end) in enumerate(zip(self._first, self._first[1:], strict=False)):
            for at in range(3 * first, 3 * end):
                ours, theirs = self._xen.signals[at], self._other.signals[at]
                if ours != theirs:
                    what = f"{names[at % 3]} of d{domain}v{at // 3 - first}"
                    self.seen = what, str(ours), str(theirs)
                    return

    def difference(self) -> Difference:
        """What was seen, in full."""
        assert self.seen
        what, xen, other = self.seen
        steps = self._program.steps[: self.index + 1]
        kind, _, _, number, _ = steps[-1]
        name = command_name(number) if kind == Kind.EVENT_CHANNEL_OP else Kind(kind).name.lower()
        states = "" if what == "crash" else tell_state(self._xen, self._other, list(self._alive()))
        key = (name, what, *([xen, other] if what == "result" else ()))
        return Difference(self._program._replace(steps=steps), key, xen, other, states)


_STATUS = struct.Struct("<HHIIIII")


# Shrinking

PATIENCE = 20.0
"""Seconds that a difference is shrunk at most."""


def shrunk(library: Library, make: Make, found: Difference) -> Difference:
    """A shorter, plainer program that differs in the same kind of answer."""
    end = time.monotonic() + PATIENCE
    found = best = run(library, make, found.program._replace(thorough=True)) or found

    def shows(program: Program) -> bool:
        nonlocal best
        if time.monotonic() > end:
            return False
        seen = run(library, make, program._replace(thorough=True))
        if seen is None or not _alike(seen.key, found.key):
            return False
        best = seen
        return True

    before = None
    while before != best.program:
        before = best.program
        _shorten(lambda: best.program, shows)
        _simplify(lambda: best.program, shows)
    return best


def _alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """The same command and kind of answer, whichever port or domain it is."""
    plain: list[Any] = [
        ("".join(c for c in part if not c.isdigit()) for part in key) for key in (one, other)
    ]
    return list(plain[0]) == list(plain[1])


def _shorten(program: Callable[[], Program], shows: Callable[[Program], bool]) -> None:
    """Leave out steps: half of them, then smaller parts."""
    part = max(len(program().steps) // 2, 1)
    while part:
        at = 0
        while at < len(program().steps):
            steps = program().steps
            if not shows(program()._replace(steps=[*steps[:at], *steps[at + part :]])):
                at += part
        part //= 2


def _simplify(program: Callable[[], Program], shows: Callable[[Program], bool]) -> None:
    """Plain numbers instead of odd ones, plain domains instead of special ones."""
    for at in range(len(program().steps) - 1, -1, -1):
        if at >= len(program().steps):
            continue
        for other in plainer(program().steps[at]):
            steps = list(program().steps)
            if at < len(steps) and steps[at] != other:
                steps[at] = other
                shows(program()._replace(steps=steps))
    for at, domain in enumerate(program().domains):
        for plain in (domain._replace(max_event_channels=1023), domain._replace(delivery="vector")):
            domains = list(program().domains)
            if domains[at] != plain:
                domains[at] = plain
                shows(program()._replace(domains=tuple(domains)))


def plainer(step: Step) -> Iterator[Step]:
    yield step._replace(vcpu=0)
    if step.kind != Kind.EVENT_CHANNEL_OP:
        yield step._replace(number=0)
    for at in range(0, len(step.data) - 3, 4):
        yield step._replace(data=step.data[:at] + bytes(4) + step.data[at + 4 :])
