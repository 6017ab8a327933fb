"""The Perfetto trace, read back by Google's protobuf."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given, settings
from hypothesis import strategies as st
from support.perfetto_messages import trace_class
from support.some_moments import ACTORS, LOST, moments

from xen_sim.explore.report import DEMUX, NOTIFY, WAKE, Moment
from xen_sim.views import wire
from xen_sim.views.arrows import arrows
from xen_sim.views.perfetto import SLICE_BEGIN, SLICE_END, perfetto

Trace = trace_class()


def read(data: bytes):
    trace = Trace.FromString(data)
    for message in unpacked(trace):
        assert not len(UnknownFieldSet(message)), f"a field that Perfetto has not: {message}"
    return trace


def unpacked(message):
    """A message and all within it."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for each in [value] if hasattr(value, "ListFields") else value:
                yield from unpacked(each)


def slices(trace, track: int) -> list[tuple[int, int, str]]:
    """Of one track: when each began and ended, and its name."""
    found, open_ = [], []
    for packet in trace.packet:
        event = packet.track_event
        if not packet.HasField("track_event") or event.track_uuid != track:
            continue
        if event.type == SLICE_BEGIN:
            open_.append((packet.timestamp, event.name))
        elif event.type == SLICE_END:
            began, name = open_.pop()
            found.append((began, packet.timestamp, name))
    assert not open_, "a slice that does not end"
    return found


def names(trace) -> dict[str, int]:
    """Tracks by what they are called."""
    described = [p.track_descriptor for p in trace.packet if p.HasField("track_descriptor")]
    return {
        d.name or d.thread.thread_name or f"process {d.process.process_name}": d.uuid
        for d in described
    }


def test_each_vcpu_is_a_track_with_its_steps_in_their_order() -> None:
    trace = read(perfetto(LOST, ACTORS))
    tracks = names(trace)
    for actor in ACTORS:
        steps = [f"{m.mark} {m.what}".lstrip() for m in LOST if m.actor == actor]
        assert [name for _, _, name in slices(trace, tracks[actor])] == steps


def test_no_two_steps_are_at_one_time_and_none_is_before_its_own() -> None:
    trace = read(perfetto(LOST, ACTORS))
    begins = [
        (packet.timestamp, packet.track_event)
        for packet in trace.packet
        if packet.track_event.debug_annotations
    ]
    times = [time for time, _ in begins]
    assert len(times) == len(LOST)
    assert times == sorted(set(times))
    for time, event in begins:
        said = {each.name: each.uint_value for each in event.debug_annotations}
        assert said["ns"] == LOST[said["step"]].ns <= time


def test_each_port_is_a_track_below_its_domain_with_its_states() -> None:
    trace = read(perfetto(LOST, ACTORS))
    uuid = names(trace)["guest port 1"]
    changes = [state for m in LOST for row, state in m.changes if row == "guest port 1"]
    shown = slices(trace, uuid)
    assert [name for _, _, name in shown] == changes
    assert all(end == begin for (_, end, _), (begin, _, _) in pairwise(shown))
    (described,) = [p.track_descriptor for p in trace.packet if p.track_descriptor.uuid == uuid]
    assert described.parent_uuid == names(trace)["process guest"]


def flows_of(trace) -> dict[int, list[int]]:
    """Steps that each flow goes through."""
    found = defaultdict(list)
    for packet in trace.packet:
        event = packet.track_event
        step = {each.name: each.uint_value for each in event.debug_annotations}.get("step")
        for flow in (*event.flow_ids, *event.terminating_flow_ids):
            found[flow].append(step)
    return found


@settings(max_examples=40)
@given(moments())
def test_flows_go_where_the_arrows_go(run: list[Moment]) -> None:
    flows = flows_of(read(perfetto(run)))
    hops = [hop for steps in flows.values() for hop in pairwise(steps)]
    assert sorted(hops) == sorted((arrow.origin, arrow.end) for arrow in arrows(run))


def test_a_flow_goes_from_notify_to_demux_to_wake_and_ends_there() -> None:
    port = "guest port 1"
    run = [
        Moment("dom0", "send port 3", events=((NOTIFY, port),)),
        Moment("guest", "demux port 1", events=((DEMUX, port),)),
        Moment("guest", "wake port 1", events=((WAKE, port),)),
    ]
    trace = read(perfetto(run))
    assert list(flows_of(trace).values()) == [[0, 1, 2]]
    ends = [list(p.track_event.terminating_flow_ids) for p in trace.packet]
    assert [flow for each in ends for flow in each] == list(flows_of(trace))


@settings(max_examples=40)
@given(moments())
def test_any_run_is_read_back(run: list[Moment]) -> None:
    trace = read(perfetto(run))
    begins = [p for p in trace.packet if p.track_event.debug_annotations]
    assert [p.track_event.name for p in begins] == [f"{m.mark} {m.what}".lstrip() for m in run]


@given(st.integers(0, 2**64 - 1))
def test_a_number_is_written_as_google_reads_it(value: int) -> None:
    packet = wire.message(1, wire.number(8, value))
    assert Trace.FromString(packet).packet[0].timestamp == value


@pytest.mark.parametrize("value", [-1, 2**64])
def test_what_is_no_unsigned_number_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="is not from 0 to 2"):
        wire.varint(value)
