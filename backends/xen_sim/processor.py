"""The one physical processor: who runs, who waits, and how it passes from one to the next.

A vCPU is a greenlet. One that blocks picks the next runnable vCPU and switches to it directly;
there is no loop in between. Because the switch is a plain call, a vCPU can be preempted wherever
`preempt` is called from, Xen's own code included.

A vCPU that neither runs nor sleeps is in the queue, wherever an exception out of a signal handler
strikes: it is entered before it is said to be awake, and again where a switch is broken off. So it
may be there twice, and be woken for nothing.

asyncio keeps three things by thread that belong to the vCPU: the running loop, the hooks for
asynchronous generators, and how deep coroutines note where they were made, which debug mode is
about. (From Python 3.14 on the current task too; up to 3.13 it is kept by loop.) They change hands
at the switch; context variables do so by themselves.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import _get_running_loop, _set_running_loop
from collections import deque
from sys import get_coroutine_origin_tracking_depth, set_coroutine_origin_tracking_depth
from typing import TYPE_CHECKING, Any, NamedTuple

from greenlet import getcurrent, greenlet

from activations.errors import BlockedForever
from xen_sim.clock import Clock
from xen_sim.tape import Tape
from xen_sim.waiting import Loops, who_waits

if TYPE_CHECKING:
    from xen_sim.vcpu import VCPU

_TASK_BY_THREAD = sys.version_info >= (3, 14)


class AsyncioState(NamedTuple):
    """What asyncio keeps by thread and the processor by vCPU."""

    loop: asyncio.AbstractEventLoop | None
    hooks: Any
    origin_depth: int

    @classmethod
    def save(cls) -> AsyncioState:
        return cls(
            _get_running_loop(),
            sys.get_asyncgen_hooks(),
            get_coroutine_origin_tracking_depth(),
        )

    @classmethod
    def fresh(cls) -> AsyncioState:
        """What a vCPU begins with: nothing of asyncio's is its own, and no domain's debug mode."""
        return cls(None, (None, None), get_coroutine_origin_tracking_depth())

    def restore(self) -> None:
        _set_running_loop(self.loop)
        sys.set_asyncgen_hooks(*self.hooks)
        set_coroutine_origin_tracking_depth(self.origin_depth)


class Processor:
    """Runs one vCPU at a time."""

    def __init__(self, clock: Clock, tape: Tape | None) -> None:
        self._clock = clock
        self._tape = tape
        self._orderly = tape is None
        self._virtual = clock.name == "virtual"
        self._turns = 0
        """Turns since anybody last looked at the clock."""
        self.queue: deque[VCPU] = deque()
        """Runnable vCPUs, first come first served; the running one is not in it."""
        self.current: VCPU | None = None
        self.hub: greenlet | None = None
        """Where control goes when nobody can run any more; without one, that is an error of
        whoever blocked last."""
        self.stuck: BlockedForever | None = None
        self.interrupted = False
        """Ctrl-C was pressed; it is raised when the processor is next given away."""
        self.resting = False
        """Nobody runs, and the wall clock waits for the real world."""
        self._threads = frozenset(threading.enumerate())

    def make_runnable(self, vcpu: VCPU) -> None:
        """Wake a vCPU that sleeps; nothing happens to one that does not."""
        if vcpu.asleep:
            self.queue.append(vcpu)
            vcpu.asleep = False

    def halt(self, vcpu: VCPU) -> None:
        """Give up the processor until somebody makes this vCPU runnable.

        Called from the idle step alone, where no task is current and the loop is the vCPU's own:
        what is to be restored afterwards is the same every time, unless debug mode is switched on
        or off while the loop runs.
        """
        if vcpu.kicked:
            vcpu.kicked = False
            return
        state = vcpu.asyncio_state
        if state is None or state.origin_depth != get_coroutine_origin_tracking_depth():
            state = vcpu.asyncio_state = AsyncioState.save()
        vcpu.greenlet = getcurrent()
        following = None
        try:
            vcpu.asleep = True
            if self.queue and self._orderly and self._turns < self._clock.patience:
                self._turns += 1  # `next`, in the ordinary course
                following = self.queue[0]
            else:
                try:
                    following = self.next()
                except BlockedForever as error:
                    to = self._hub_hears_of(error)
            if following is not None:
                to = following.greenlet
                self.queue.popleft()
            if following is not vcpu:
                self.current = following
                to.switch()
                self.current = vcpu
                state.restore()
            vcpu.asleep = vcpu.kicked = False
        except BaseException:
            self._broken_off(vcpu, following, state)
            raise

    def _hub_hears_of(self, error: BlockedForever) -> greenlet:
        """Nobody can run any more: leave the error for the hub, and give the hub."""
        if self.hub is None:
            raise self.blocked(error, [_get_running_loop()]) from None
        self.stuck = error
        return self.hub

    def blocked(self, error: BlockedForever, loops: Loops) -> BlockedForever:
        """The same error, with who waits for what."""
        return BlockedForever(f"{error}:\n{who_waits(loops, self._threads)}")

    def wait(self, vcpu: VCPU) -> None:
        """As `halt`, from anywhere: within a hypercall that a task makes, say."""
        vcpu.asleep = True
        try:
            self._run_next(vcpu)
        finally:
            vcpu.asleep = False

    def give_way(self, vcpu: VCPU) -> None:
        """Let the others have a turn, if any can run; then go on."""
        if not self.queue and self._turns < self._clock.patience:
            self._turns += 1
            return
        self.queue.append(vcpu)
        self._run_next(vcpu)

    def preempt(self, vcpu: VCPU, point: str) -> None:
        """The running vCPU is about to do what `point` says: ask the tape whether another one
        runs first. It stays runnable."""
        if not self.queue or self._tape is None:
            return
        options = [vcpu.name, *(other.name for other in self.queue)]
        choice = self._tape.choose(f"{vcpu.name}: {point}", options)
        if choice:
            self._bring_forward(choice - 1)
            self.queue.append(vcpu)
            self.run(self.queue[0], vcpu)

    def next(self) -> VCPU:
        """The next vCPU to run: it stands first in the queue then. Passes time until there is
        one."""
        queue = self.queue
        self._turns += 1
        if self._turns > self._clock.patience:
            self._take_interrupt()
            self._clock.look_up()
        while not queue:
            self._turns = 0
            if self._virtual:
                if self.interrupted:
                    self._take_interrupt()
                self._clock.idle()
            else:
                self._rest()
        if self._tape is not None and len(queue) > 1:
            self._bring_forward(self._tape.choose("run next", [vcpu.name for vcpu in queue]))
        return queue[0]

    def _bring_forward(self, index: int) -> None:
        self.queue.appendleft(self.queue[index])
        del self.queue[index + 1]

    def _run_next(self, leaving: VCPU) -> None:
        following = self.next()
        if following is leaving:
            self.queue.popleft()
        else:
            self.run(following, leaving)

    def _rest(self) -> None:
        """Wait for the real world; Ctrl-C ends that at once, as soon as `resting` says so."""
        self.resting = True
        try:
            self._take_interrupt()
            self._clock.idle()
        finally:
            self.resting = False

    def interrupt(self) -> None:
        """Ctrl-C was pressed: have the next one who gives the processor away look up. Pressed
        again, or while nobody runs, it is raised at once."""
        at_once = self.interrupted or self.resting
        self.interrupted = True
        self._turns = sys.maxsize
        if at_once:
            self._take_interrupt()

    def _take_interrupt(self) -> None:
        if self.interrupted:
            self.interrupted = False
            self._turns = 0
            raise KeyboardInterrupt

    def run(self, following: VCPU, leaving: VCPU | None) -> None:
        """Hand the processor to the first in the queue, from anywhere, a task included; returns
        when it is `leaving`'s turn again."""
        state = AsyncioState.save()
        loop = state.loop
        task = asyncio.current_task(loop) if _TASK_BY_THREAD and loop else None
        if leaving is not None:
            leaving.greenlet = getcurrent()
        try:
            if loop is not None and task is not None:
                asyncio.tasks._leave_task(loop, task)
            self.current = following
            self.queue.popleft()
            following.greenlet.switch()
            self.current = leaving
            state.restore()
            if loop is not None and task is not None:
                asyncio.tasks._enter_task(loop, task)
        except BaseException:
            self._broken_off(leaving, following, state)
            if loop is not None and task is not None and asyncio.current_task(loop) is None:
                asyncio.tasks._enter_task(loop, task)
            raise

    def _broken_off(
        self, leaving: VCPU | None, following: VCPU | None, state: AsyncioState
    ) -> None:
        """An exception struck as the processor changed hands: who was leaving goes on, and who was
        to follow will another time, for nothing if it has by now."""
        self.current = leaving
        if leaving is not None:
            leaving.asleep = False
        if following is not None and not following.greenlet.dead:
            self.queue.append(following)
        state.restore()
