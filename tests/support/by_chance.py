"""The scenarios of tests/kernels/by_chance.c, drawn and searched here: what they can come to.

Nothing of the engine's is in it. A state is a value; whoever can do something does it in each
state, one step of a list, and no step is left out. What is told apart is what the engine tells of
an end: the flags of each vCPU, and what everybody has noted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

WORDS, DEEDS, ROOM = 3, 4, 4
READ, WRITE, ADD, SEND, OFF, ON, CALL, SLEEP, NOTHING = range(9)
X86, ARM64 = "x86", "arm64"

Op = tuple[Any, ...]
Place = tuple[str, int]
"""A word of memory: what it is, and of whom."""
End = tuple[tuple[tuple[int, int, int], ...], tuple[int, ...]]
"""Of each vCPU whether an upcall is pending, the mask and the selector; and the notes."""


class _Drawn:
    def __init__(self, seed: int) -> None:
        self.state = seed * 2862933555777941757 % 2**64

    def draw(self, most: int) -> int:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 40) % 2**32 % most

    def deeds(self, many: int, kinds: int) -> list[tuple[int, int]]:
        return [(self.draw(kinds) if i < many else NOTHING, self.draw(WORDS)) for i in range(DEEDS)]


class Store(NamedTuple):
    """One that others do not see yet. An atomic operation's keeps others from writing there."""

    at: Place
    value: int
    atomic: bool = False


class Agent(NamedTuple):
    ops: tuple[Op, ...]
    late: tuple[Store, ...] = ()
    handles: bool = False
    enabled: bool = True
    shadow: bool = False
    before: bool = True
    """Whether interrupts were enabled as the handler was entered."""
    requested: bool = False
    in_service: bool = False
    in_xen: bool = False
    asleep: str = ""
    kicked: bool = False


class State(NamedTuple):
    agents: tuple[Agent, ...]
    memory: tuple[tuple[Place, int], ...] = ()
    """What is not 0."""
    notes: tuple[int, ...] = (0,) * 8

    def with_agent(self, number: int, **changes: Any) -> State:
        agents = list(self.agents)
        agents[number] = agents[number]._replace(**changes)
        return self._replace(agents=tuple(agents))

    def at(self, place: Place) -> int:
        for at, value in self.memory:
            if at == place:
                return value
        return 0

    def written(self, place: Place, value: int) -> State:
        words = {**dict(self.memory), place: value}
        return self._replace(memory=tuple(sorted(each for each in words.items() if each[1])))


class ByChance:
    """One of them."""

    def __init__(self, delivery: str, vcpus: int, ports: int, seed: int, order: str = "") -> None:
        self.delivery, self.vcpus, self.order = delivery, vcpus, order
        drawn = _Drawn(seed)
        self._handlers: list[tuple[Op, ...]] = []
        mains: list[tuple[Op, ...]] = []
        for who in range(vcpus + ports):
            if who < vcpus:
                deeds = drawn.deeds(drawn.draw(3), SEND)
                self._handlers.append(self._handler(who, deeds))
            deeds = drawn.deeds(2 + drawn.draw(DEEDS - 1), NOTHING if who < vcpus else OFF)
            ops = tuple(op for deed, object in deeds for op in self._deed(who, who, deed, object))
            mains.append((*ops, ("for ever",)) if who < vcpus else ops)
        self._mains = mains

    def ends(self) -> set[End]:
        """What it can come to."""
        first = State(tuple(Agent(ops) for ops in self._mains))
        for number in range(len(self._mains)):
            first = self._settled(first, number)
        seen, left, found = {first}, [first], set()
        while left:
            state = left.pop()
            following = set(self._following(state))
            if not following:
                found.add(self._end(state))
            left += following - seen
            seen |= following
        return found

    def _end(self, state: State) -> End:
        flags = ("pending", "mask", "selector")
        vcpus = (tuple(state.at((of, v)) for of in flags) for v in range(self.vcpus))
        return tuple(vcpus), state.notes  # type: ignore[return-value]

    # What is done, as steps

    def _deed(self, who: int, vcpu: int, deed: int, object: int) -> list[Op]:
        place = ("word", object)
        match deed:
            case 0:
                return [("read", place, who)]
            case 1:
                return [("write", place, 1 + who)]
            case 2:
                return [("add", place, who)]
            case 3:
                return [("send", object % self.vcpus)]
            case 4:
                return self._off(vcpu)
            case 5:
                return self._on(vcpu)
            case 6:
                return [("enter",), ("leave",)]
            case 7:
                return [*self._off(vcpu), ("sleep",)]
        return []

    def _off(self, vcpu: int) -> list[Op]:
        return [("write", ("mask", vcpu), 1)] if self.delivery == "pv" else [("cli",)]

    def _on(self, vcpu: int) -> list[Op]:
        if self.delivery != "pv":
            return [("sti",)]
        return [("write", ("mask", vcpu), 0), ("if pending", ("enter",), ("leave",))]

    def _handler(self, vcpu: int, deeds: list[tuple[int, int]]) -> tuple[Op, ...]:
        ops: list[Op] = [("write", ("pending", vcpu), 0)]
        ops += [("eoi",)] if self.delivery == "vector" else []
        ops += [("take",)]
        for deed, object in deeds[:2]:
            ops += self._deed(4 + vcpu, vcpu, deed, object)
        return (*ops, ("return",))

    # What may follow a state

    def _following(self, state: State) -> Iterator[State]:
        for number, agent in enumerate(state.agents):
            for nth in range(len(agent.late)):
                if self._may_leave(state, number, nth):
                    yield self._left(state, number, nth)
            if self._lets_interrupt(number, agent) and self._deliverable(state, number, state.at):
                yield self._settled(self._interrupted(state, number), number)
            if agent.asleep:
                if agent.asleep == "block" and agent.kicked:
                    yield self._settled(self._woken(state, number), number)
            elif agent.ops and self._may(state, number, agent.ops[0]):
                yield self._settled(self._done(state, number), number)

    def _deliverable(self, state: State, number: int, at: Any) -> bool:
        vcpu = state.agents[number]
        if vcpu.in_xen:
            return False
        if self.delivery == "pv":
            return bool(at(("pending", number)) and not at(("mask", number)))
        if not vcpu.enabled or vcpu.shadow:
            return False
        if self.delivery == "callback":
            return bool(at(("pending", number)))
        return vcpu.requested and not vcpu.in_service

    def _interrupted(self, state: State, number: int) -> State:
        vcpu = state.agents[number]
        assert not vcpu.handles
        if self.delivery == "pv":
            state = state.written(("mask", number), 1)
        handler = self._handlers[number]
        return state.with_agent(
            number,
            ops=(*handler, *vcpu.ops),
            handles=True,
            before=vcpu.enabled,
            enabled=False,
            requested=False if self.delivery == "vector" else vcpu.requested,
            in_service=self.delivery == "vector",
            asleep="",
            kicked=False if vcpu.asleep else vcpu.kicked,
        )

    def _woken(self, state: State, number: int) -> State:
        return state.with_agent(number, asleep="", kicked=False)

    def _settled(self, state: State, number: int) -> State:
        """What is no step of its own is done with the one before it."""
        while True:
            agent = state.agents[number]
            if agent.asleep or not agent.ops:
                return state
            op, rest = agent.ops[0], agent.ops[1:]
            match op[0]:
                case "for ever":
                    ops = (*self._off(number), ("sleep",), op)
                    state = state.with_agent(number, ops=ops)
                case "sti":
                    state = state.with_agent(number, ops=rest, enabled=True, shadow=False)
                case "sti before hlt":
                    state = state.with_agent(
                        number, ops=rest, enabled=True, shadow=not agent.enabled
                    )
                case "eoi":
                    state = state.with_agent(number, ops=rest, in_service=False)
                case "leave" if self.order != X86 or not agent.late:
                    state = state.with_agent(number, ops=rest, in_xen=False)
                    if self._deliverable(state, number, self._view(state, number)):
                        state = self._interrupted(state, number)
                case "fence" if not agent.late:
                    state = state.with_agent(number, ops=rest)
                case _:
                    return state

    # In which order others see stores

    def _view(self, state: State, number: int) -> Any:
        """Memory as one of them sees it: its own stores at once."""
        late = {each.at: each.value for each in state.agents[number].late}
        return lambda place: late[place] if place in late else state.at(place)

    def _lets_interrupt(self, number: int, agent: Agent) -> bool:
        return number < self.vcpus and not (self.order == X86 and agent.late)

    def _may(self, state: State, number: int, op: Op) -> bool:
        late = state.agents[number].late
        if op[0] in ("read", "if pending", "sleep", "cli"):
            return True
        if op[0] == "write":
            return len(late) < ROOM
        if self.order == ARM64 and op[0] in ("enter", "leave", "hlt", "return"):
            return True
        if late:
            return False
        return op[0] not in ("add", "set", "take") or not self._taken(
            state, number, self._place(op, number)
        )

    def _place(self, op: Op, number: int) -> Place:
        return ("selector", number) if op[0] == "take" else op[1]

    def _taken(self, state: State, number: int, place: Place) -> bool:
        return any(
            each.atomic and each.at == place
            for other, agent in enumerate(state.agents)
            for each in agent.late
            if other != number
        )

    def _may_leave(self, state: State, number: int, nth: int) -> bool:
        late = state.agents[number].late
        if self.order != ARM64:
            return nth == 0
        if any(each.at == late[nth].at for each in late[:nth]):
            return False
        return late[nth].atomic or not self._taken(state, number, late[nth].at)

    def _left(self, state: State, number: int, nth: int) -> State:
        late = state.agents[number].late
        state = state.written(late[nth].at, late[nth].value)
        state = state.with_agent(number, late=(*late[:nth], *late[nth + 1 :]))
        return self._settled(state, number)

    def _stored(self, state: State, number: int, at: Place, value: int, atomic: bool) -> State:
        if not self.order or (atomic and self.order == X86):
            return state.written(at, value)
        if atomic and value == self._view(state, number)(at):
            return state
        late = (*state.agents[number].late, Store(at, value, atomic))
        return state.with_agent(number, late=late)

    # A step

    def _done(self, state: State, number: int) -> State:
        agent = state.agents[number]
        (name, *of), rest = agent.ops[0], agent.ops[1:]
        seen = self._view(state, number)
        state = state.with_agent(number, ops=rest)
        match name:
            case "read":
                return _noted(state, of[1], seen(of[0]))
            case "write":
                return self._stored(state, number, of[0], of[1], atomic=False)
            case "add":
                state = _noted(state, of[1], seen(of[0]))
                return self._stored(state, number, of[0], seen(of[0]) + 5, atomic=True)
            case "send":
                ops = [("set", ("port", of[0]), of[0])]
                return state.with_agent(number, ops=(*ops, *rest))
            case "set":
                return self._set(state, number, of[0], of[1], seen(of[0]))
            case "raise":
                vcpu = state.agents[of[0]]
                return state.with_agent(
                    of[0], requested=self.delivery == "vector", kicked=vcpu.asleep == "block"
                )
            case "take":
                ops = (
                    [("clear", ("port", number)), ("fence",)] if seen(("selector", number)) else []
                )
                state = self._stored(state, number, ("selector", number), 0, atomic=True)
                return state.with_agent(number, ops=(*ops, *rest))
            case "clear":
                return self._stored(state, number, of[0], 0, atomic=True)
            case "return":
                return self._returned(state, number)
            case "cli":
                return state.with_agent(number, enabled=False, shadow=False)
            case "enter":
                return state.with_agent(number, in_xen=True)
            case "if pending":
                ops = of if seen(("pending", number)) else ()
                return state.with_agent(number, ops=(*ops, *rest))
            case "sleep":
                return self._sleeps(state, number, seen(("pending", number)))
            case "hlt":
                return state.with_agent(number, shadow=False, asleep="hlt")
            case "block":
                state = state.with_agent(number, kicked=False, in_xen=False)
                if self._deliverable(state, number, self._view(state, number)):
                    return state.with_agent(number, in_xen=True)
                return state.with_agent(number, asleep="block")
        raise AssertionError(name)

    def _set(self, state: State, number: int, at: Place, vcpu: int, was: int) -> State:
        """A bit that Xen sets; and if it was not, the next: of the port, the selector, the flag."""
        behind = {"port": ("selector", vcpu), "selector": ("pending", vcpu)}
        rest = state.agents[number].ops
        state = self._stored(state, number, at, 1, atomic=True)
        ops: list[Op] = [("fence",)]
        if not was:
            ops += [("set", behind[at[0]], vcpu)] if at[0] in behind else [("raise", vcpu)]
        return state.with_agent(number, ops=(*ops, *rest))

    def _sleeps(self, state: State, number: int, pending: int) -> State:
        rest = state.agents[number].ops
        ops: list[Op]
        if pending:
            ops = self._on(number)
        elif self.delivery == "pv":
            ops = [("enter",), ("write", ("mask", number), 0), ("block",), ("leave",)]
        else:
            ops = [("sti before hlt",), ("hlt",)]
        return state.with_agent(number, ops=(*ops, *rest))

    def _returned(self, state: State, number: int) -> State:
        before = state.agents[number].before
        state = state.with_agent(number, handles=False, enabled=before, shadow=False)
        if self.delivery == "pv":
            state = state.written(("mask", number), 0)
        again = self.delivery != "vector"
        if again and self._deliverable(state, number, self._view(state, number)):
            return self._interrupted(state, number)
        return state


def _noted(state: State, who: int, read: int) -> State:
    notes = list(state.notes)
    notes[who] = (notes[who] * 16 + 1 + read) % 2**64
    return state._replace(notes=tuple(notes))
