"""Every rule once more, cut short: somewhere in the midst of it all its halves are cancelled by
anyio, which cancels again at every turn until a half has ended.

Whatever a half was about, it ends, and with nothing left open: a port, a grant or a task that is
left fails the test, and so does one that waits for ever.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any

import anyio
import pytest
from anyio import BrokenResourceError, EndOfStream
from support.below import exchange
from support.drawn import drawn
from support.places import RULES
from support.rules import rules_in

from activations import ActivationsError, Domain, EventLoop, scenario
from xen_sim import Machine

CUTS = [0, *drawn(1)]
NEVER = 10**9
"""A turn that does not come."""


class Cut:
    """A rule on a simulated machine, cut short at a turn of its loops, all counted as one."""

    def __init__(self, target: str, at: int) -> None:
        self.turns = 0
        self._at = at
        rule = scenario.load(target)
        self._machine = Machine(clock=rule.clock)
        for half in rule.halves.values():
            self._machine.boot(half.name, self._half(half.main))

    def run(self) -> None:
        self._machine.run()

    def _half(self, main: Any) -> Any:
        async def half(xen: Domain) -> None:
            with anyio.CancelScope() as scope:
                self._count_turns(xen.loop, scope)
                try:
                    await main(xen)
                except BaseException as error:
                    if not (scope.cancel_called and _forgiven(error)):
                        raise

        return half

    def _count_turns(self, loop: Any, scope: anyio.CancelScope) -> None:
        """Each turn of the loop asks its lower half once which ports have fired."""
        assert isinstance(loop, EventLoop)
        demux = loop._lower.demux

        def counted() -> Sequence[int]:
            self.turns += 1
            if self.turns == self._at:
                for life in self._machine.lives:
                    life.vcpu.cpu.kick()  # one that sleeps is to hear of it too
            if self.turns >= self._at:
                scope.cancel()
            fired: Sequence[int] = demux()
            return fired

        exchange(loop, demux=counted)


def _forgiven(error: BaseException) -> bool:
    """Whether a half was told that the other one, which is cut short too, has gone; or of the cut,
    in a way that anyio does not know again, as `asyncio.gather` has it."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_forgiven, error.exceptions))
    return isinstance(error, (ActivationsError, BrokenResourceError, EndOfStream, CancelledError))


@cache
def length(target: str) -> int:
    """How many turns a rule takes."""
    whole = Cut(target, NEVER)
    whole.run()
    return whole.turns


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("rule", rules_in(RULES))
def test_a_rule_that_is_cut_short_leaves_nothing_open(rule: str, cut: int) -> None:
    at = Random(f"{rule.rpartition('::')[2]} {cut}").randrange(1, length(rule) + 1)
    Cut(rule, at).run()
