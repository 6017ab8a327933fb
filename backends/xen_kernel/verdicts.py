"""A kernel decided: built, searched, and what was found told with the fewest preemptions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from xen_kernel import build
from xen_kernel.engine import (
    COMPLETE,
    DIED,
    INTERRUPTED,
    MOVES,
    OUT_OF_MEMORY,
    OUT_OF_STATES,
    OUT_OF_TIME,
    STEPS,
    STORED,
    Limits,
    Live,
    Move,
    Program,
    Result,
)
from xen_kernel.errors import KernelError
from xen_kernel.scenario import Scenario, named
from xen_sim.explore import finding
from xen_sim.explore.course import Course, Deviation, checks
from xen_sim.explore.finding import Finding
from xen_sim.explore.report import DEVIATION, Moment, with_wrong
from xen_sim.explore.search import ONE_OF_EACH
from xen_sim.explore.token import Token, TokenError, identify, parse, parse_for
from xen_sim.explore.verdict import (
    BOUNDED,
    EXHAUSTED,
    FOUND,
    OPEN,
    Figures,
    Found,
    Verdict,
)
from xen_sim.explore.verdict import INTERRUPTED as CTRL_C

NOT_MODELLED, STARVATION = "not modelled", "starvation"
KINDS = (
    *("", finding.LOST_WAKEUP, finding.REENTERED, finding.ASLEEP_DEAF, finding.OVER_AND_OVER),
    *(STARVATION, "assertion", finding.LIVELOCK, finding.DEADLOCK, "spins for ever"),
    *("stack overrun", "outside of its memory", "crash", NOT_MODELLED),
)
"""enum wrong in engine/engine.h."""

FEWEST = range(6)
"""Preemptions with which what was found is looked for again."""
SHOWN = 60
"""Moves of a livelock that are shown, of those that go on for ever."""
TELLING = Limits(seconds=5)

_ALWAYS = (
    "what is compiled otherwise than gcc compiles it here (-O2)",
    "boot: the run begins with the kernel booted and its ports bound and unmasked",
    "time: it stands still, and a timer that is set may fire at any moment",
    "two states whose digests of 64 bits are the same",
)
_UNASKED = "starvation: how many passes may serve others first is said by --passes"
_ARM64 = (
    "arm64's reads: they are done in the order of the program, and so is a write behind a read; "
    "what acquire, dmb ishld and dependencies are for is not missed here",
    "arm64's interrupts, which come as the delivery has it on x86, and its compiler",
)
_LIMITS = {
    OUT_OF_TIME: "the time was up",
    OUT_OF_STATES: "the number of states was reached",
    OUT_OF_MEMORY: "the memory was used up",
    DIED: "one of the processes that searched died",
}


def decide(
    scenario: Scenario,
    limits: Limits | None = None,
    bound: int | None = None,
    live: Live | None = None,
    *,
    reduced: bool = False,
    jobs: int = 1,
) -> Verdict:
    """Search every state of a kernel, or those within `bound` preemptions, or, `reduced`, enough of
    them to come to every end, with `jobs` processes. Raises `KernelError` for a kernel that cannot
    be explored as it is given."""
    limits = limits or Limits()
    reduced = reduced and reducible(scenario)
    program = Program(build.program(scenario), scenario)
    result, _ = program.search(limits, bound=bound, reduced=reduced, live=live, jobs=jobs)
    verdict = Verdict(
        scenario.title,
        _kind(result, bound),
        _figures(result),
        bound=bound,
        leaves_out=leaves_out(scenario),
    )
    if result.wrong:
        verdict.found = [_found(program, _fewest(program, result))]
    elif result.result == INTERRUPTED:
        verdict.bound = None
        verdict.notes.append(CTRL_C)
    elif result.result != COMPLETE:
        verdict.notes.append(f"{_LIMITS[result.result]}: what was covered is all that is known")
        _cover(verdict, program, result, limits, jobs)
    elif reduced:
        verdict.notes.append(ONE_OF_EACH)
    return verdict


def _cover(verdict: Verdict, program: Program, result: Result, limits: Limits, jobs: int) -> None:
    """Too many states: with how many preemptions at most can all be tried, in half the time?"""
    verdict.bound, left = None, limits.seconds / 2
    for bound in FEWEST:
        covered, _ = program.search(
            replace(limits, seconds=left), bound=bound, shared=result.shared, jobs=jobs
        )
        left -= covered.seconds
        if covered.wrong:
            verdict.kind = FOUND
            verdict.found = [_found(program, covered)]
        if covered.result != COMPLETE or left <= 0:
            return
        verdict.bound = bound


def fitting(scenarios: Iterable[Scenario], token: str) -> Scenario:
    """The one of these that the token was found in. Raises `TokenError` if it is none of them."""
    for scenario in scenarios:
        if parse(token).program == identify(identity(scenario)):
            return scenario
    parse_for(token, identity(scenario), scenario.name)
    return scenario


def replay(scenario: Scenario, token: str, limits: Limits | None = None) -> Found:
    """The run of a token again. Raises `TokenError` where it no longer fits."""
    parsed = parse_for(token, identity(scenario), scenario.name)
    program = Program(build.program(scenario), scenario)
    for _ in ("as it is remembered", "as it is learned anew"):
        shared = _learned(program, token, limits or Limits())
        result, moves = program.replay(_way(parsed.course), shared)
        if _fits(parsed, moves, _questions(program, result, moves)):
            return _found(program, replace(result, way=_way(parsed.course), shared=shared))
        program.forget(token)
    raise TokenError(
        f"the token no longer fits: {scenario.name} asks otherwise than when it was found; "
        "explore it again"
    )


def _fits(token: Token, moves: Sequence[Move], asked: Sequence[tuple[str, Sequence[str]]]) -> bool:
    """Whether a run has asked what it had asked when the token was given."""
    asks = len(moves) > max((each.at for each in token.course), default=-1)
    return asks and checks(token.course, asked) == token.checks


def _learned(program: Program, token: str, limits: Limits) -> Sequence[int]:
    """The words that were known to be shared as this token was given. Where that is forgotten, it
    is searched for again."""
    if (shared := program.remembered(token)) is not None:
        return shared
    result, _ = program.search(limits)
    return _fewest(program, result).shared if result.wrong else result.shared


def beside(scenario: Scenario, found: Found) -> Sequence[Moment]:
    """The nearest run that passes: the same for as long as can be. Empty where there is none."""
    program = Program(build.program(scenario), scenario)
    shared = _learned(program, found.token, Limits())
    for kept in reversed(range(len(found.course))):
        ended, moves = program.replay(_way(found.course[:kept]), shared)
        if not ended.wrong:
            return _moments(program, ended, moves)
    return ()


def leaves_out(scenario: Scenario) -> tuple[str, ...]:
    """What the model does not have, or was not asked for: a part of each verdict."""
    fair = scenario.passes or scenario.ports == 1
    return (*_order(scenario), *(() if fair else (_UNASKED,)), *_ALWAYS)


def _order(scenario: Scenario) -> tuple[str, ...]:
    if scenario.arch == "arm64":
        return _ARM64
    order = "the weaker order of arm64's memory"
    if not scenario.buffers:
        order = "the processors' own reordering (store buffers, arm64)"
    return (order,)


def reducible(scenario: Scenario) -> bool:
    """Whether it is known which steps are independent: not where stores are seen late, nor where
    each pass looks at every port."""
    return scenario.arch != "arm64" and not scenario.buffers and not scenario.passes


def identity(scenario: Scenario) -> str:
    """What has to be the same for a token to fit."""
    return f"{scenario.name} {scenario.told} {named(scenario.harness)} {scenario.defines}"


def _kind(result: Result, bound: int | None) -> str:
    if result.wrong:
        return FOUND
    if result.result != COMPLETE:
        return OPEN
    return EXHAUSTED if bound is None else BOUNDED


def _figures(result: Result) -> Figures:
    return Figures(
        runs=result.runs,
        seconds=result.seconds,
        steps=result.moves,
        depth=result.depth,
        states=result.states,
    )


def _fewest(program: Program, result: Result) -> Result:
    """The same finding, reached with the fewest preemptions. A livelock is told by the shortest way
    there, which the search knows already."""
    if KINDS[result.wrong] == finding.LIVELOCK:
        return result
    for bound in FEWEST:
        again, _ = program.search(TELLING, bound=bound, shared=result.shared)
        if again.wrong == result.wrong:
            return again
        if again.result != COMPLETE:
            break
    return result


def _found(program: Program, result: Result) -> Found:
    ended, moves = program.replay(result.way, result.shared)
    kind = KINDS[result.wrong]
    if kind == finding.LIVELOCK:
        moves = moves[: _last(result.way) + SHOWN]
    line = program.symbols.line(result.site) if result.site else ""
    said = f"{line}: {result.said}" if line else result.said
    if kind == NOT_MODELLED:
        raise KernelError(f"{line or program.scenario.name}: {result.said}")
    course = _course(moves)
    asked = _questions(program, ended, moves)
    token = Token(identify(identity(program.scenario)), 0, course, checks(course, asked))
    program.remember(str(token), result.shared)
    actor = ended.agents[moves[-1].agent] if moves else ""
    moments = with_wrong(_moments(program, ended, moves), actor, kind)
    return Found(
        Finding(kind, said, actor),
        str(token),
        course,
        tuple(moments),
        tuple(ended.agents),
        "every state",
        result.runs,
    )


def _last(way: Sequence[int]) -> int:
    """The last answer that is not the ordinary one."""
    return max((at for at, answer in enumerate(way) if answer), default=0)


def _course(moves: Sequence[Move]) -> Course:
    return tuple(Deviation(at, move.answer) for at, move in enumerate(moves) if move.answer)


def _way(course: Course) -> list[int]:
    way = [0] * (course[-1].at + 1 if course else 0)
    for at, answer in course:
        way[at] = answer
    return way


def _questions(
    program: Program, ended: Result, moves: Sequence[Move]
) -> list[tuple[str, Sequence[str]]]:
    return [
        (str(number), [_option(ended, option) for option in move.options])
        for number, move in enumerate(moves)
    ]


def _option(ended: Result, option: int) -> str:
    agent, what = divmod(option, MOVES)
    said = ("{}", "upcall of {}", "store of {}")[min(what, STORED)].format(ended.agents[agent])
    return f"{said}, {what - STORED} before it" if what > STORED else said


def _moments(program: Program, ended: Result, moves: Sequence[Move]) -> list[Moment]:
    program.symbols.resolve(move.site for move in moves)
    return [
        Moment(
            ended.agents[move.agent],
            _what(program, move),
            DEVIATION if move.answer and move.preempts else "",
            program.symbols.line(move.site) if move.site else "",
        )
        for move in moves
    ]


def _what(program: Program, move: Move) -> str:
    name = f" {program.symbols.memory(move.address)}" if move.address else ""
    said = f"{STEPS[move.kind]}{name}".strip() or "goes on"
    return f"· {said}" if move.handler else said
