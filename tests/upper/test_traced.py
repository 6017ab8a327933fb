"""Traces of real domains: on the backend `linux` over a stand-in for the device, those of several
domains put together, and of a run in the lab."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.linux_fakes import FakeEventDevice, FakeResumes
from support.places import EXAMPLES

import xen_linux.lower
from activations import Domain, GenerationEnded, Scenario
from activations.errors import BackendError
from activations.outcome import RunOptions
from activations.scenario import Silent, load
from activations.trace import FARTHEST, Trace, together
from xen_linux.grants import LinuxGrantTable
from xen_linux.identity import Identity
from xen_linux.lower import LinuxLowerHalf
from xen_sim.explore.report import DEMUX
from xen_sim.views import traced
from xen_sim.views.arrows import arrows


class OnStandIn:
    """`linux`, where the device is a stand-in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.device: FakeEventDevice
        self.resumes: FakeResumes
        monkeypatch.setattr(sys.modules["xen_linux.backend"], "new_lower_half", self._make)
        monkeypatch.setattr(xen_linux.lower, "identify", lambda: Identity(4, "guest", "PVH"))

    def _make(self, name: str | None) -> LinuxLowerHalf:
        self.device, self.resumes = FakeEventDevice(), FakeResumes()
        table = LinuxGrantTable(3, "PVH")
        return LinuxLowerHalf(3, name or "guest", self.device, table, self.resumes)

    def run(self, main: Any, trace: Path) -> dict[str, Any]:
        scenario = Scenario("it")
        scenario.domain("guest")(main)
        how = RunOptions(only="guest", trace=trace)
        return xen_linux.backend.run(scenario, how, Silent()).failures


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> OnStandIn:
    return OnStandIn(monkeypatch)


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_on_linux_a_trace_tells_what_was_asked_and_what_was_delivered(
    linux: OnStandIn, tmp_path: Path
) -> None:
    async def main(xen: Domain) -> None:
        with xen.events.alloc_unbound(0) as port:
            linux.device.fire(port.number)
            await port.wait()
            port.notify()
        with xen.events.bind_interdomain(0, 7) as port:
            await port.wait()
        xen.events.bind_virq(2).close()

    assert not linux.run(main, tmp_path / "t.jsonl")
    start, *told = events(tmp_path / "t.jsonl")
    assert {**start, "realtime": 0} == {
        **{"ns": start["ns"], "domain": "guest", "what": "start", "domid": 3, "realtime": 0}
    }
    assert [event["ns"] for event in told] == sorted(event["ns"] for event in told)
    assert {event["domain"] for event in told} == {"guest"}
    rest = [{k: v for k, v in event.items() if k not in ("ns", "domain")} for event in told]
    assert rest == [
        {"what": "alloc_unbound", "port": 1, "remote": 0},
        {"what": "demux", "port": 1},
        {"what": "wake", "port": 1},
        {"what": "send", "port": 1},
        {"what": "close", "port": 1},
        {"what": "bind_interdomain", "port": 1, "remote": 0, "remote_port": 7},
        {"what": "demux", "port": 1},
        {"what": "wake", "port": 1},
        {"what": "close", "port": 1},
        {"what": "bind_virq", "port": 1, "virq": 2},
        {"what": "close", "port": 1},
        {"what": "end"},
    ]


def test_a_trace_is_written_of_a_half_that_raises_too(linux: OnStandIn, tmp_path: Path) -> None:
    async def main(xen: Domain) -> None:
        raise ValueError("what now?")

    assert "what now?" in linux.run(main, tmp_path / "t.html")["guest"]
    assert (tmp_path / "t.html").read_bytes().startswith(b"<!DOCTYPE html>")


def test_a_suspend_is_told(linux: OnStandIn, tmp_path: Path) -> None:
    async def main(xen: Domain) -> None:
        port = xen.events.alloc_unbound(0)
        linux.resumes.resume()
        with pytest.raises(GenerationEnded):
            await port.wait()

    assert not linux.run(main, tmp_path / "t")
    whats = [event["what"] for event in events(tmp_path / "t")]
    assert whats == ["start", "alloc_unbound", "suspend", "end"]


def test_a_trace_that_cannot_be_written_is_told(linux: OnStandIn) -> None:
    async def main(xen: Domain) -> None:
        pass

    with pytest.raises(BackendError, match="the trace is lost: /dev/full: No space left"):
        linux.run(main, Path("/dev/full"))


# Several domains


def a_run(chance: Random) -> list[dict[str, Any]]:
    """Events of three domains as they happened, each channel's end as it is in Xen."""
    told: list[dict[str, Any]] = []
    now = 0

    def note(domain: str, what: str, **details: Any) -> None:
        nonlocal now
        now += chance.randint(1, 9)
        told.append({"ns": now, "domain": domain, "what": what, **details})

    names = ["dom0", "a", "b"]
    for domid, name in enumerate(names):
        note(name, "start", domid=domid)
    for number, (one, other) in enumerate([(0, 1), (2, 0), (1, 2)], 1):
        note(names[one], "alloc_unbound", port=number, remote=other)
        note(names[other], "bind_interdomain", port=number + 10, remote=one, remote_port=number)
        ends = [(names[one], number), (names[other], number + 10)]
        pending = [False, True]
        for _ in range(20):
            end = chance.randrange(2)
            if pending[end] and chance.random() < 0.6:
                pending[end] = False
                note(ends[end][0], "demux", port=ends[end][1])
            else:
                pending[1 - end] = True
                note(ends[end][0], "send", port=ends[end][1])
    return told


def as_kept(
    told: list[dict[str, Any]], late: dict[str, int], drift: int = 0
) -> list[list[dict[str, Any]]]:
    """What each domain kept, by its own clock. Its `realtime` is wrong by what is said, and each
    clock runs by so many thousandths faster than the one before."""
    kept = []
    for number, name in enumerate(late):
        own = [event for event in told if event["domain"] == name]
        began = own[0]["ns"]
        own = [
            {**event, "ns": (event["ns"] - began) * (1000 + drift * number) // 1000}
            for event in own
        ]
        own[0]["realtime"] = 10**18 + began + late[name]
        kept.append(own)
    return kept


def plain(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: event[key] for key in event if key not in ("ns", "realtime")} for event in told]


def test_by_clocks_that_are_right_events_come_in_the_order_in_which_they_were() -> None:
    for seed in range(20):
        told = a_run(Random(seed))
        whole = together(as_kept(told, {"b": 0, "dom0": 0, "a": 0}))
        assert plain(whole.events) == plain(told)
        began = told[0]["ns"]
        assert [event["ns"] for event in whole.events] == [e["ns"] - began for e in told]


@given(
    st.integers(0, 2**32),
    *(st.integers(0, FARTHEST // 4) for _ in range(3)),
    st.integers(0, 300),
)
def test_no_event_is_taken_before_it_was_sent(
    seed: int, one: int, two: int, three: int, drift: int
) -> None:
    told = a_run(Random(seed))
    whole = together(as_kept(told, {"dom0": one, "a": two, "b": three}, drift))
    assert sorted(map(repr, plain(whole.events))) == sorted(map(repr, plain(told)))
    peers: dict[tuple[str, int], tuple[str, int]] = {}
    names = ["dom0", "a", "b"]
    for event in told:
        if event["what"] == "bind_interdomain":
            port = (event["domain"], event["port"])
            peer = (names[event["remote"]], event["remote_port"])
            peers |= {port: peer, peer: port}
    sent: Counter[tuple[str, int]] = Counter()
    allocated = set()
    for event in whole.events:
        port = (event["domain"], event.get("port", 0))
        match event["what"]:
            case "alloc_unbound":
                allocated.add(port)
            case "bind_interdomain":
                assert peers[port] in allocated
                sent[port] += 1
            case "send":
                sent[peers[port]] += 1
            case "demux":
                sent[port] -= 1
                assert sent[port] >= 0


def test_what_was_reported_for_nothing_moves_no_clock() -> None:
    """As after the device's ring overflowed, an hour before the next event was sent."""
    told = a_run(Random(1))
    hour = 3600 * 10**9
    spurious = {"ns": told[-1]["ns"] + 1, "domain": "a", "what": "demux", "port": 11}
    last = {"ns": told[-1]["ns"] + hour, "domain": "dom0", "what": "send", "port": 1}
    late = [{**last, "ns": last["ns"] + n} for n in range(20)]
    told = [*told, *[{**spurious, "ns": spurious["ns"] + n} for n in range(20)], *late]
    assert plain(together(as_kept(told, {"dom0": 0, "a": 0, "b": 0})).events) == plain(told)


def test_domains_of_which_nothing_was_heard_are_left_out() -> None:
    assert together([[], []]).events == []
    assert together([]).events == []


@pytest.mark.lab
def test_a_run_in_the_lab_is_traced_from_send_to_demux_to_wake(lab: Any, tmp_path: Path) -> None:
    kept: list[Trace] = []
    outcome = lab.run(load(str(EXAMPLES / "pingpong.py")), Silent(), traced=kept.append)
    assert not outcome.failures
    told = traced.moments(kept[0].events)
    hops = [hop for hop in arrows(told) if hop.kind == DEMUX]
    crossing = Counter((told[hop.origin].actor, told[hop.end].actor) for hop in hops)
    assert crossing == {("dom0", "guest"): 10, ("guest", "dom0"): 10, ("guest", "guest"): 1}
    assert sum(hop.kind != DEMUX for hop in arrows(told)) == 21
