"""A run as a trace for Perfetto: native TrackEvents.

    a track for each vCPU       a slice for each step, with its number, its mark and its note
    a track for each port       a slice for each state
    a flow for each event       an arrow from notify to demux to wake

Simulated time stands still while anything runs, and two slices of no length cannot be told apart.
So a step lasts a nanosecond here, and later steps of an instant come later by as many; what the
run's clock said is an annotation, `ns`.

Numbers of fields are those of Perfetto's public protos/perfetto/trace/: trace.proto,
trace_packet.proto, track_event/{track_event,track_descriptor,process_descriptor,
thread_descriptor,debug_annotation}.proto.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from xen_sim.explore.report import WAKE, Moment
from xen_sim.views.arrows import arrows
from xen_sim.views.wire import fixed64, message, number, text

TRACE_PACKET = 1
PACKET_TIMESTAMP, PACKET_SEQUENCE, PACKET_TRACK_EVENT, PACKET_TRACK = 8, 10, 11, 60
PACKET_FLAGS, INCREMENTAL_STATE_CLEARED = 13, 1
TRACK_UUID, TRACK_NAME, TRACK_PROCESS, TRACK_THREAD, TRACK_PARENT = 1, 2, 3, 4, 5
PROCESS_PID, PROCESS_NAME = 1, 6
THREAD_PID, THREAD_TID, THREAD_NAME = 1, 2, 5
EVENT_ANNOTATION, EVENT_TYPE, EVENT_TRACK, EVENT_CATEGORY, EVENT_NAME = 4, 9, 11, 22, 23
EVENT_FLOW, EVENT_LAST_FLOW = 47, 48
SLICE_BEGIN, SLICE_END = 1, 2
ANNOTATION_UINT, ANNOTATION_STRING, ANNOTATION_NAME = 3, 6, 10
SEQUENCE = 1
"""Everything here is written by one writer."""


def perfetto(moments: Sequence[Moment], actors: Sequence[str] = ()) -> bytes:
    """The file, for ui.perfetto.dev or trace_processor. `actors` gives the order of the tracks."""
    return b"".join(_Writer(moments, actors).packets())


class _Writer:
    def __init__(self, moments: Sequence[Moment], actors: Sequence[str]) -> None:
        self._moments = moments
        self._actors = list(dict.fromkeys([*actors, *(moment.actor for moment in moments)]))
        self._rows = list(dict.fromkeys(row for each in moments for row, _ in each.changes))
        self._tracks = {name: uuid for uuid, name in enumerate([*self._actors, *self._rows], 1)}
        self._times = _times(moments)
        self._flows = _flows(moments)

    def packets(self) -> Iterator[bytes]:
        yield _packet(number(PACKET_FLAGS, INCREMENTAL_STATE_CLEARED))
        yield from self._descriptions()
        states: dict[str, str] = {}
        for index, (moment, at) in enumerate(zip(self._moments, self._times, strict=True)):
            track = self._tracks[moment.actor]
            yield _event(at, SLICE_BEGIN, track, *self._told(index, moment))
            for row, state in moment.changes:
                if row in states:
                    yield _event(at, SLICE_END, self._tracks[row])
                yield _event(at, SLICE_BEGIN, self._tracks[row], text(EVENT_NAME, state))
                states[row] = state
            yield _event(at + 1, SLICE_END, track)
        end = self._times[-1] + 1 if self._times else 0
        for row in states:
            yield _event(end, SLICE_END, self._tracks[row])

    def _descriptions(self) -> Iterator[bytes]:
        """A domain is a process, and its vCPUs are threads; a port's track is below the domain."""
        domains: dict[str, int] = {}
        for actor in self._actors:
            if (domain := actor.partition(".")[0]) not in domains:
                domains[domain] = len(domains) + 1
                yield self._process(domain, domains[domain])
            uuid = self._tracks[actor]
            thread = message(
                TRACK_THREAD,
                number(THREAD_PID, domains[domain]),
                number(THREAD_TID, 1000 + uuid),
                text(THREAD_NAME, actor),
            )
            yield _packet(message(PACKET_TRACK, number(TRACK_UUID, uuid), thread))
        for row in self._rows:
            named = [number(TRACK_UUID, self._tracks[row]), text(TRACK_NAME, row)]
            if (owner := row.partition(" ")[0]) in domains:
                named.append(number(TRACK_PARENT, self._of_process(domains[owner])))
            yield _packet(message(PACKET_TRACK, *named))

    def _process(self, domain: str, pid: int) -> bytes:
        process = message(TRACK_PROCESS, number(PROCESS_PID, pid), text(PROCESS_NAME, domain))
        return _packet(message(PACKET_TRACK, number(TRACK_UUID, self._of_process(pid)), process))

    def _of_process(self, pid: int) -> int:
        return len(self._tracks) + pid

    def _told(self, index: int, moment: Moment) -> Iterator[bytes]:
        yield text(EVENT_NAME, f"{moment.mark} {moment.what}".lstrip())
        yield text(EVENT_CATEGORY, "marked" if moment.mark else "step")
        yield _annotation("step", number(ANNOTATION_UINT, index))
        yield _annotation("ns", number(ANNOTATION_UINT, moment.ns))
        if moment.note:
            yield _annotation("note", text(ANNOTATION_STRING, moment.note))
        for flow, last in self._flows[index]:
            yield fixed64(EVENT_LAST_FLOW if last else EVENT_FLOW, flow)


def _times(moments: Sequence[Moment]) -> list[int]:
    """When each step is shown: no two at once."""
    found: list[int] = []
    at = -1
    for moment in moments:
        at = max(at + 1, moment.ns)
        found.append(at)
    return found


def _flows(moments: Sequence[Moment]) -> dict[int, list[tuple[int, bool]]]:
    """By moment: flows that begin, go on or end there. One goes from notify to demux to wake."""
    found: dict[int, list[tuple[int, bool]]] = defaultdict(list)
    running: dict[tuple[int, str], int] = {}
    """Flows by the moment and port at which they could go on."""
    all_ = arrows(moments)
    goes_on = {(arrow.origin, arrow.port) for arrow in all_ if arrow.kind == WAKE}
    for flow, arrow in enumerate(all_, 1):
        known = running.get((arrow.origin, arrow.port)) if arrow.kind == WAKE else None
        if known is None:
            found[arrow.origin].append((flow, False))
        same = known or flow
        last = arrow.kind == WAKE or (arrow.end, arrow.port) not in goes_on
        found[arrow.end].append((same, last))
        running[arrow.end, arrow.port] = same
    return found


def _packet(*fields: bytes) -> bytes:
    return message(TRACE_PACKET, number(PACKET_SEQUENCE, SEQUENCE), *fields)


def _event(at: int, kind: int, track: int, *fields: bytes) -> bytes:
    event = message(
        PACKET_TRACK_EVENT, number(EVENT_TYPE, kind), number(EVENT_TRACK, track), *fields
    )
    return _packet(number(PACKET_TIMESTAMP, at), event)


def _annotation(name: str, value: bytes) -> bytes:
    return message(EVENT_ANNOTATION, text(ANNOTATION_NAME, name), value)
