"""The agent: one process in every domain, which does there what the host asks.

It starts jobs and passes on what they print, keeps and gives files, and in dom0 relays the
messages of the guests, whose consoles it reads. While idle it imports what most scenarios import,
and before a half whatever else the scenario's files do; then it forks for that: the imports cost
3 s there, and who forks pays them once.
When the host hangs up it ends, and dom0 with it: a lab that lost its host switches itself off.

Requests are `{"id", "to", "do", ...}`, `to` being None where the message has arrived. Answers
carry the same `id` and `is`: `done`, `error`, `stream` for a piece of output, `exit` for a job's
end.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import sys
import tty
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from xen_lab.inside import half, interpreter, jobs, records
from xen_lab.inside.channel import CHUNK, Decoder, Message, encode, pack, unpack

READ = 64 << 10
HELD = 256 << 10
"""Bytes waiting to go to the host before the agent stops to let them go."""


class Line:
    """A descriptor that carries messages both ways, never blocking unless told to."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.decoder: Decoder = Decoder()
        self.outgoing: bytearray = bytearray()

    def send(self, message: Message) -> None:
        self.outgoing += encode(message)
        self.flush()

    def flush(self) -> None:
        """Write what the other side takes now."""
        try:
            while self.outgoing:
                del self.outgoing[: os.write(self.descriptor, self.outgoing[:READ])]
        except BlockingIOError:
            pass

    def drain(self) -> None:
        """Write until little is left, however long that takes."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.descriptor, selectors.EVENT_WRITE)
            while len(self.outgoing) > HELD:
                selector.select()
                self.flush()

    def receive(self) -> list[Message | bytes]:
        """What has come. Raises `EOFError` when the other side is gone."""
        try:
            data = os.read(self.descriptor, READ)
        except BlockingIOError:
            return []
        except OSError as error:
            raise EOFError(str(error)) from error
        if not data:
            raise EOFError("closed")
        return list(self.decoder.feed(data))


class Agent:
    """Serves one line to the host, until it closes."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._guests: dict[str, Line] = {}
        self._jobs: dict[int, jobs.Job] = {}
        self._forked: set[int] = set()
        """Which of the jobs leave word of what they imported."""
        self._selector = selectors.DefaultSelector()
        self._warming: Iterator[None] = half.warm_up()
        self._warm = False
        self._watch(line.descriptor, self._serve)

    def run(self) -> None:
        """Serve for ever; while there is no request, warm up."""
        while True:
            self._want_writes()
            ready = self._selector.select(None if self._warm else 0)
            if not ready:
                self._warm = next(self._warming, self) is self
            for key, mask in ready:
                if key.fileobj in self._selector.get_map():  # not gone in this very turn
                    key.data(mask)
            if len(self._line.outgoing) > HELD:
                self._line.drain()

    def leave(self) -> None:
        """In a forked child that is something else from now on: let go of what it has here. (Its
        descriptors were closed; whatever has their numbers next is not to be closed as well.)"""
        with contextlib.suppress(OSError):
            self._selector.close()

    def _warm_up(self, names: Iterable[str]) -> None:
        """Import these too, when nothing else is to be done."""
        self._warming = chain(self._warming, half.warm_up(names))
        self._warm = False

    def _watch(self, descriptor: int, react: Callable[[int], object]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, react)

    def _want_writes(self) -> None:
        """Ask to be woken for writing by the lines that have something left to write."""
        for line in (self._line, *self._guests.values()):
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if line.outgoing else 0)
            key = self._selector.get_key(line.descriptor)
            if key.events != events:
                self._selector.modify(line.descriptor, events, key.data)

    def _serve(self, mask: int) -> None:
        self._line.flush()
        if not mask & selectors.EVENT_READ:
            return
        for message in self._line.receive():
            if isinstance(message, dict):
                self._handle(message)

    def _handle(self, message: Message) -> None:
        domain, request = message.get("to"), message.get("id")
        if domain in self._guests:
            self._guests[domain].send({**message, "to": None})
            return
        try:
            if domain not in (None, "dom0"):
                raise LookupError(f"no guest {domain!r} is attached")
            answer = getattr(self, "do_" + message["do"])(message)
        except Exception as error:
            self._line.send({"id": request, "is": "error", "text": f"{error}"})
        else:
            if answer is not None:
                self._line.send({"id": request, "is": "done", **answer})

    # Files

    def do_put(self, message: Message) -> Message:
        """Write a piece of a file; the first one makes it anew, in folders made as needed."""
        path = Path(message["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if message["offset"] else "wb") as file:
            file.seek(message["offset"])
            file.write(unpack(message["data"]))
        path.chmod(message["mode"])
        return {}

    def do_get(self, message: Message) -> Message:
        """A piece of a file; an empty one is its end."""
        with Path(message["path"]).open("rb") as file:
            file.seek(message["offset"])
            return {"data": pack(file.read(CHUNK))}

    # Jobs

    def do_command(self, message: Message) -> None:
        argv, env, cwd = message["argv"], message["env"], message["cwd"]
        program = interpreter.program(argv, env)
        if program is None:
            self._begin(message, jobs.command(argv, env, cwd))
            return
        for _ in self._warming:
            pass
        interpreter.reach_command()
        for _ in half.warm_up(interpreter.imported(argv)):
            pass
        self._begin(message, jobs.interpreter(program, env, cwd))
        self._forked.add(message["id"])

    def do_terminal(self, message: Message) -> None:
        job = jobs.terminal(message["argv"], message["env"], message["rows"], message["columns"])
        self._begin(message, job)

    def do_half(self, message: Message) -> None:
        for _ in chain(self._warming, half.warm_up(message["imports"])):
            pass
        target, name, level = message["target"], message["name"], message["log"]
        folder = half.lay_out(message["digest"], message["files"], target)

        def body(result: int, log: int, trace: int, recording: int) -> int:
            os.environ.update(message["env"])
            records.send(log, level)
            how: dict[str, Any] = {}
            if message["trace"]:
                how["trace"] = half.Notes(trace)
            if message["record"]:
                how["recorder"] = half.recorder(recording, name, **message["record"])
            return half.run(folder, target, name, result, how)

        self._begin(message, jobs.function(body))
        self._forked.add(message["id"])

    def do_input(self, message: Message) -> Message:
        if job := self._jobs.get(message["job"]):
            job.write(unpack(message["data"]))
        return {}

    def do_resize(self, message: Message) -> Message:
        if job := self._jobs.get(message["job"]):
            job.resize(message["rows"], message["columns"])
        return {}

    def do_signal(self, message: Message) -> Message:
        if job := self._jobs.get(message["job"]):
            job.signal(message["signal"])
        return {}

    def do_end(self, message: Message) -> Message:
        if job := self._jobs.get(message["job"]):
            job.end()
        return {}

    def _begin(self, message: Message, job: jobs.Job) -> None:
        number = message["id"]
        self._jobs[number] = job
        for descriptor in job.streams:
            self._watch(descriptor, partial(self._pass_on, number, descriptor))
        self._watch(job.pidfd, partial(self._finish, number))

    def _pass_on(self, number: int, descriptor: int, mask: int = 0) -> bool:
        """Send a piece of a job's stream; false when there is no more for now."""
        job = self._jobs[number]
        data = job.read(descriptor)
        if data:
            self._line.send(
                {"id": number, "is": "stream", "name": job.streams[descriptor], "data": pack(data)}
            )
        elif data is not None:
            self._unwatch(descriptor)
        return bool(data)

    def _finish(self, number: int, mask: int) -> None:
        """The process has ended: what is in its pipes is the last of it, though others hold them
        open."""
        job = self._jobs[number]
        for descriptor in job.streams:
            while self._pass_on(number, descriptor):
                pass
        for descriptor in (job.pidfd, *job.streams):
            self._unwatch(descriptor)
        del self._jobs[number]
        status = job.reap()
        if number in self._forked:
            self._forked.remove(number)
            self._warm_up(half.learned())
        self._line.send({"id": number, "is": "exit", "status": status})

    def _unwatch(self, descriptor: int) -> None:
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    # Guests, in dom0

    def do_tidy(self, message: Message) -> Message:
        """Make the domains' folders in xenstore as if nothing had run yet; rename guests."""
        from xen_lab.inside.tidy import tidy  # by now what it imports is there

        tidy(message["names"])
        return {}

    def do_attach(self, message: Message) -> Message:
        """Relay the messages of the guest whose console this terminal is, under a label."""
        label = message["label"]
        descriptor = os.open(message["path"], os.O_RDWR | os.O_NOCTTY)
        tty.setraw(descriptor)
        self._guests[label] = Line(descriptor)
        self._watch(descriptor, partial(self._relay, label))
        return {}

    def _relay(self, label: str, mask: int) -> None:
        line = self._guests[label]
        line.flush()
        if not mask & selectors.EVENT_READ:
            return
        try:
            for message in line.receive():
                if isinstance(message, bytes):
                    message = {"is": "noise", "text": message.decode(errors="backslashreplace")}
                self._line.send({**message, "from": label})
        except EOFError:
            self._forget(label)
            self._line.send({"is": "gone", "from": label})

    def do_detach(self, message: Message) -> Message:
        if message["label"] in self._guests:
            self._forget(message["label"])
        return {}

    def _forget(self, label: str) -> None:
        descriptor = self._guests.pop(label).descriptor
        self._unwatch(descriptor)
        os.close(descriptor)


def facts() -> dict[str, Any]:
    """Versions, as this domain sees them."""
    version = Path("/sys/hypervisor/version")
    parts = [(version / name).read_text().strip() for name in ("major", "minor", "extra")]
    return {
        "xen": f"{parts[0]}.{parts[1]}{parts[2]}",
        "linux": os.uname().release,
        "python": sys.version.split()[0],
    }


def main() -> None:
    """Open the line named as the argument, say hello, serve; in a child that leaves, be what that
    is to be."""
    descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
    if os.isatty(descriptor):
        tty.setraw(descriptor)
    line = Line(descriptor)
    line.send({"is": "hello", "facts": facts()})
    agent = Agent(line)
    try:
        agent.run()
    except EOFError:
        return
    except jobs.Become as become:
        agent.leave()
        program = become.program
    del agent, line
    program()


if __name__ == "__main__":
    main()
