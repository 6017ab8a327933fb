"""The one physical processor: who runs, who sleeps, and how it passes from one to the next.

A vCPU is a fiber, which runs on a greenlet. One that sleeps picks the next runnable fiber and
switches to it directly; there is no loop in between. Because the switch is a plain call, a fiber
can be preempted wherever `preempt` is called from, Xen's own code included.

The invariant: a fiber that neither runs nor sleeps, and was not put away, is in the queue, wherever
an exception out of a signal handler strikes: it is entered before it is said to be awake, and again
where a switch is broken off. So it may be there twice, and be woken for nothing; no wake-up is lost
here.

What the thread keeps that belongs to a fiber (asyncio keeps its running loop there) changes hands
at the switch: a fiber's `keep` says what that is (`kept`), and the scheduler does not ask.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import NoReturn

from greenlet import GreenletExit, getcurrent, greenlet

from activations.errors import BlockedForever, SimulationOver
from xen_sim.schedule.clock import Clock
from xen_sim.schedule.kept import Kept, nothing
from xen_sim.schedule.step import RUN_NEXT, Choice, Step
from xen_sim.schedule.tape import Tape


def unexplained(error: BlockedForever) -> BlockedForever:
    """The `report` of a scheduler without a machine."""
    return error


class Fiber:
    """Something that runs, and can give up the processor anywhere."""

    __slots__ = ("asleep", "greenlet", "keep", "kept", "kicked", "name")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.asleep: bool = False
        """Written by the scheduler alone."""
        self.kicked: bool = False
        """Somebody kicked it since it last slept."""
        self.greenlet: greenlet
        self.keep: Callable[[], Kept] = nothing
        """Says what the thread keeps for it now."""
        self.kept: Kept | None = None
        """What it kept when this fiber last slept: nearly always the same."""

    def forget(self) -> None:
        """What the thread kept may go: this fiber has slept for the last time."""
        self.kept = None


class Scheduler:
    """Runs one fiber at a time."""

    __slots__ = (
        *("_clock", "_free_turns", "_keep", "_tape", "_turns", "_virtual"),
        *("current", "ending", "errand", "hub", "interrupted", "over"),
        *("queue", "report", "resting"),
    )

    def __init__(self, clock: Clock, tape: Tape | None, keep: Callable[[], Kept] = nothing) -> None:
        self._clock = clock
        self._tape = tape
        self._keep = keep
        """What the thread keeps for the caller that starts the run."""
        self._free_turns = clock.patience if tape is None else 0
        """So many turns go to the first in the queue without anybody being asked."""
        self._virtual = clock.name == "virtual"
        self._turns = 0
        """Turns since anybody last looked at the clock."""
        self.queue: deque[Fiber] = deque()
        """Runnable fibers, first come first served; the running one is not in it."""
        self.current: Fiber | None = None
        self.hub: greenlet | None = None
        """Where control goes when the run is over, or an errand is to be done; without one, that
        the run is over is raised where it is found out."""
        self.over: SimulationOver | None = None
        """Why the run is over: what the hub finds when control comes back to it."""
        self.errand: Callable[[], None] | None = None
        """What the hub is to do before anybody runs again."""
        self.ending: bool = False
        """All that still run are to end: each gets `GreenletExit` where it next gives way."""
        self.report: Callable[[BlockedForever], BlockedForever] = unexplained
        """Says who waits for what, where that is raised with no hub."""
        self.interrupted: bool = False
        """Ctrl-C was pressed; it is raised when the processor is next given away."""
        self.resting: bool = False
        """No fiber runs, and the wall clock waits for the real world."""

    # Who sleeps

    def wake(self, fiber: Fiber) -> None:
        """Make a fiber that sleeps runnable; nothing happens to one that does not."""
        if fiber.asleep:
            self.queue.append(fiber)
            fiber.asleep = False

    def kick(self, fiber: Fiber) -> None:
        """Wake a fiber for what it cannot know of; one that is not asleep does not fall asleep the
        next time."""
        fiber.kicked = True
        self.wake(fiber)

    def start(self, fiber: Fiber, main: Callable[[], object]) -> None:
        """A fiber that has not begun is runnable: `main` is what it runs. When that returns,
        control goes to the hub."""
        fiber.greenlet = greenlet(main, self.hub)
        self.queue.append(fiber)

    def sleep(self, fiber: Fiber) -> None:
        """Give up the processor until somebody wakes this fiber.

        Called where what the thread keeps for the fiber is the same every time: an event loop's
        idle step, or plain code. `wait` may be called from anywhere.
        """
        if fiber.kicked:
            fiber.kicked = False
            return
        kept = fiber.kept
        if kept is None or kept.stale():
            kept = fiber.kept = fiber.keep()
        fiber.greenlet = getcurrent()
        following = None
        try:
            fiber.asleep = True
            if self.queue and self._turns < self._free_turns:
                self._turns += 1  # `next`, in the ordinary course
                following = self.queue[0]
            else:
                try:
                    following = self.next()
                except SimulationOver as error:
                    to = self._hub_hears_of(error)
            if following is not None:
                to = following.greenlet
                self.queue.popleft()
            if following is not fiber:
                self.current = following
                to.switch()
                self.current = fiber
                kept.restore()
                if self.ending:
                    raise GreenletExit
            fiber.asleep = fiber.kicked = False
        except BaseException:
            self._broken_off(fiber, following, kept)
            raise

    def wait(self, fiber: Fiber) -> None:
        """As `sleep`, from anywhere: within a hypercall that a task makes, say."""
        fiber.asleep = True
        try:
            self._run_next(fiber)
        finally:
            fiber.asleep = False

    def skip_to(self, fiber: Fiber, when: int) -> bool:
        """As if this fiber slept until `when`, where that is the next thing that happens and no
        other fiber can tell: it is then at once. False where the fiber has to sleep."""
        if self.queue or fiber.kicked or self.interrupted or self.ending:
            return False
        if not self._clock.skip_to(when):
            return False
        self._turns = 0
        return True

    # Who is put away

    def put_away(self, fiber: Fiber) -> None:
        """This fiber neither runs nor sleeps, and cannot be woken, until `bring_back`. The running
        one goes on until it calls `leave`."""
        fiber.asleep = False
        while fiber in self.queue:
            self.queue.remove(fiber)

    def bring_back(self, fiber: Fiber) -> None:
        """Who was put away is runnable."""
        self.queue.append(fiber)

    def leave(self, fiber: Fiber) -> None:
        """The running fiber was put away: others run, until it is brought back."""
        self._run_next(fiber)

    def at_hub(self, fiber: Fiber, errand: Callable[[], None]) -> None:
        """Have the hub do this, on no fiber's greenlet. Then the running fiber goes on, if it was
        not put away by that, and the tape does not have another one run first."""
        assert self.hub is not None
        self.errand = errand
        self.queue.appendleft(fiber)
        self._switch_to(self.hub, fiber)

    # Who runs

    def give_way(self, fiber: Fiber) -> None:
        """Let the others have a turn, if any can run; then go on."""
        if not self.queue and self._turns < self._clock.patience:
            self._turns += 1
            return
        self.queue.append(fiber)
        self._run_next(fiber)

    def stand_aside(self, fiber: Fiber) -> None:
        """As `give_way`, but it is another one that runs next: this one waits for that."""
        if self.queue:
            following = self.next()
            self.queue.append(fiber)
            self.run(following, fiber)

    def spend(self, fiber: Fiber) -> None:
        """A turn that came to nothing is counted all the same: who only ever takes such turns would
        have the others, and the clock, stand still."""
        if self._turns < self._clock.patience:
            self._turns += 1
        else:
            self.give_way(fiber)

    def preempt(self, fiber: Fiber, step: Step) -> None:
        """The running fiber is about to take this step: ask the tape whether another one runs
        first. It stays runnable."""
        if self.ending:
            raise GreenletExit
        if self._tape is None:
            return
        try:
            if not self.queue:
                self._tape.alone(fiber.name, step)
                return
            options = (fiber.name, *[other.name for other in self.queue])
            choice = self._tape.choose(Choice(f"{fiber.name}: {step}", options, step))
        except SimulationOver as error:
            self.end(fiber, error)
        if choice:
            self._bring_forward(choice - 1)
            self.queue.append(fiber)
            self.run(self.queue[0], fiber)

    def ask(self, fiber: Fiber, step: Step, *others: str) -> int:
        """What becomes of this step of the running fiber: 0 if it is taken as ever, else the number
        of another way, from 1."""
        assert self._tape is not None
        try:
            return self._tape.choose(Choice(f"{fiber.name}: {step}", (fiber.name, *others), step))
        except SimulationOver as error:
            self.end(fiber, error)

    def next(self) -> Fiber:
        """The next fiber to run: it stands first in the queue then. Passes time until there is
        one. Raises `SimulationOver` where there can be none any more."""
        if self.ending:
            raise GreenletExit
        queue = self.queue
        self._turns += 1
        if self._turns > self._clock.patience:
            if self.interrupted:
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
            names = tuple([fiber.name for fiber in queue])
            self._bring_forward(self._tape.choose(Choice(RUN_NEXT, names)))
        return queue[0]

    def _bring_forward(self, index: int) -> None:
        self.queue.appendleft(self.queue[index])
        del self.queue[index + 1]

    def _run_next(self, leaving: Fiber) -> None:
        try:
            following = self.next()
        except SimulationOver as error:
            self._to_hub(leaving, error)
            return
        if following is leaving:
            self.queue.popleft()
        else:
            self.run(following, leaving)

    def run(self, following: Fiber, leaving: Fiber | None) -> None:
        """Hand the processor to the first in the queue, from anywhere; returns when it is
        `leaving`'s turn again."""
        kept = leaving.keep() if leaving else self._keep()
        if leaving is not None:
            leaving.greenlet = getcurrent()
        try:
            self.current = following
            self.queue.popleft()
            following.greenlet.switch()
            self.current = leaving
            kept.restore()
            if self.ending and leaving is not None:
                raise GreenletExit
        except BaseException:
            self._broken_off(leaving, following, kept)
            raise

    def _broken_off(self, leaving: Fiber | None, following: Fiber | None, kept: Kept) -> None:
        """An exception struck as the processor changed hands: who was leaving goes on, and who was
        to follow will another time, for nothing if it has by now."""
        self.current = leaving
        if leaving is not None:
            leaving.asleep = False
        if following is not None and not following.greenlet.dead:
            self.queue.append(following)
        kept.restore()

    # The end

    def ended(self) -> None:
        """Every fiber has ended. What is still given back then is not interleaved."""
        self.ending = False
        self.queue.clear()
        self.current = None

    def end(self, fiber: Fiber, error: SimulationOver) -> NoReturn:
        """The run is over, as this fiber finds out. No code of its own is told, lest it take this
        for an error that it can handle: control goes to the hub for good."""
        self._to_hub(fiber, error)
        raise GreenletExit

    def _to_hub(self, fiber: Fiber, error: SimulationOver) -> None:
        """Control goes to the hub; it comes back if the fiber is to clean up."""
        self._switch_to(self._hub_hears_of(error), fiber)

    def _switch_to(self, hub: greenlet, fiber: Fiber) -> None:
        kept = fiber.keep()
        fiber.greenlet = getcurrent()
        try:
            hub.switch()
        finally:
            self.current = fiber
            kept.restore()
        if self.ending:
            raise GreenletExit

    def _hub_hears_of(self, error: SimulationOver) -> greenlet:
        """Leave the error for the hub, and give the hub; without one it is raised here."""
        if self.hub is None:
            raise (self.report(error) if isinstance(error, BlockedForever) else error) from None
        self.over = error
        return self.hub

    # Ctrl-C

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
        again, or while no fiber runs, it is raised at once."""
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
