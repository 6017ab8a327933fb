"""`activations evtchn`: on a simulated Xen, on a real one, and beside Xen's own lsevtchn."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.places import EXAMPLES

import activations
from activations import Domain, Scenario
from activations.cli import main
from activations.evtchn.errors import HalfMissing
from activations.evtchn.flood import Flood, Water
from activations.evtchn.halves import answer
from activations.evtchn.latency import Latencies, histogram, percentile
from activations.evtchn.listing import uses
from activations.evtchn.ping import Ping, Trips
from activations.evtchn.scenarios import perform
from xen_lab import Lab
from xen_linux.listing import holders, parsed

ACTIVATIONS = Path(sys.executable).with_name("activations")
PINGPONG = EXAMPLES / "pingpong.py"
LSEVTCHN = "/usr/lib/xen-4.17/bin/lsevtchn"
STATES = {"Virtual IRQ": "virq", "Physical IRQ": "pirq", "IPI": "ipi"}
INTERDOMAIN = re.compile(r"Interdomain \(Connected\) - Remote Domain (\d+), Port (\d+)")
WAITING = re.compile(r"Interdomain \(Waiting connection\) - Remote Domain (\d+)")
Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """The command with --json: its status, and its objects."""
    status = main(["evtchn", *words, "--json"])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# What is counted


def test_a_percentile_is_the_least_length_that_so_many_do_not_exceed() -> None:
    ordered = list(range(1, 1001))
    assert [percentile(ordered, share) for share in (50, 90, 99, 99.9)] == [500, 900, 990, 999]
    assert percentile([7], 99.9) == 7


def test_a_histogram_has_every_length_once_between_its_first_and_its_last_bar() -> None:
    lengths = [3, 5, 6, 20, 21, 900]
    found = histogram(lengths)
    assert [bound for bound, _ in found] == [5, 10, 20, 50, 100, 200, 500, 1000]
    assert [number for _, number in found] == [2, 1, 1, 1, 0, 0, 0, 1]
    assert Latencies().as_data() == {}


def test_what_xen_prints_of_ports_is_read_for_the_domain_that_was_asked_for() -> None:
    printed = """\
(XEN) Event channel information for domain 0:
(XEN)     port [p/m/s]
(XEN)        1 [1/1/  -   ]: s=5 n=0 x=0 v=0
(XEN) Event channel information for domain 1:
(XEN) Polling vCPUs: {}
(XEN)     port [p/m/s]
(XEN)        1 [0/1/  -   ]: s=3 n=0 x=0 d=0 p=22
(XEN)        2 [1/0/  -   ]: s=3 n=0 x=0 d=0 p=23
"""
    assert parsed(printed, 1) == {1: (False, True), 2: (True, False)}
    assert parsed(printed, 2) == {}


def test_programs_with_ports_are_told_from_the_kernels_interrupts() -> None:
    lines = """\
 29:  143   xen-dyn    -event     xenbus
 35:    0   xen-dyn-lateeoi    -event     evtchn:xenstored
 36:   23   xen-dyn-lateeoi    -event     evtchn:xenstored
 42:    2   xen-dyn-lateeoi    -event     evtchn:xenconsoled
"""
    assert holders(lines) == {"xenstored": 2, "xenconsoled": 1}


def test_what_a_port_is_for_stands_in_xenstore() -> None:
    async def dom0(xen: Domain) -> dict[tuple[int, int], str]:
        device = "/local/domain/5/device"
        for path, value in {
            "/local/domain/5/store/port": "1",
            f"{device}/vbd/51712/event-channel": "7",
            f"{device}/vbd/51712/backend": "/local/domain/0/backend/pyvbd/5/51712",
            f"{device}/vif/0/backend": "/local/domain/0/backend/vif/5/0",
            f"{device}/vif/0/queue-1/event-channel-rx": "9",
            f"{device}/vif/1/event-channel": "no number",
        }.items():
            await xen.store.write(path, value)
        return await uses(xen.store)

    assert activations.run(dom0) == {
        (5, 1): "xenstore",
        (5, 7): "vbd 51712, activations attach",
        (5, 9): "vif 0, xen-netback (queue-1)",
    }


# ls on the simulator


def test_ls_shows_a_scenarios_ports_and_the_task_that_waits_for_each(capsys: Capture) -> None:
    status, said = run(capsys, "ls", "guest", "--run", str(PINGPONG))
    ports = [each for each in said if each["event"] == "port"]
    assert (status, {port["domain"] for port in ports}) == (0, {"guest"})
    (channel,) = (port for port in ports if port["remote_domid"] == 0)
    assert (channel["state"], channel["remote_port"]) == ("interdomain", 3)
    assert "pingpong.py" in channel["holder"]
    assert isinstance(channel["pending"], bool)


def test_ls_at_a_time_ends_the_run_there(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "endless.py"
    file.write_text(
        "import asyncio\nfrom activations import Scenario\n"
        "endless = Scenario('endless')\n"
        "@endless.domain('dom0')\n"
        "async def dom0(xen):\n"
        "    await asyncio.sleep(1)\n"
        "    with xen.events.alloc_unbound(7):\n"
        "        while True:\n"
        "            await asyncio.sleep(1)\n"
    )
    for at, expected in (("0.5", []), ("1.5", [7])):
        status, said = run(capsys, "ls", "--run", str(file), "--at", at)
        found = [each["remote_domid"] for each in said if each.get("state") == "unbound"]
        assert (status, found) == (0, expected)


def test_ls_of_a_run_that_is_over_before_its_moment_says_so(capsys: Capture) -> None:
    status, said = run(capsys, "ls", "--run", str(PINGPONG), "--at", "60")
    assert status == 2
    assert said[-1]["event"] == "error"
    assert "ended before 60 s" in said[-1]["text"]


def test_a_domain_that_is_not_in_the_scenario_is_refused_by_name(capsys: Capture) -> None:
    status, said = run(capsys, "ls", "nowhere", "--run", str(PINGPONG))
    assert status == 2
    assert "it has: dom0, guest" in said[-1]["text"]


def test_on_sim_ls_asks_for_a_scenario(capsys: Capture) -> None:
    assert main(["evtchn", "ls", "-b", "sim"]) == 2
    assert "--run FILE" in capsys.readouterr().err


@pytest.mark.skipif(Path("/dev/xen/evtchn").exists(), reason="this machine runs on Xen")
@pytest.mark.parametrize("words", [["ls"], ["ping"], ["flood"], ["answer", "0"], ["watch", "3"]])
def test_where_this_is_no_xen_domain_the_error_names_the_other_backends(
    words: list[str], capsys: Capture
) -> None:
    assert main(["evtchn", *words]) == 2
    said = capsys.readouterr().err
    assert "--backend sim" in said
    assert "--backend lab" in said


# ping and flood


@pytest.mark.parametrize("domain", [[], ["guest"]])
def test_every_ping_returns(domain: list[str], capsys: Capture) -> None:
    status, (said,) = run(capsys, "ping", *domain, "-b", "sim", "-n", "200")
    assert status == 0
    assert (said["sent"], said["returned"], said["lost"], said["coalesced"]) == (200, 200, 0, 0)
    times = said["latency_ns"]
    assert times["min"] <= times["p50"] <= times["p99.9"] <= times["max"]
    assert sum(number for _, number in times["histogram"]) == 200


@pytest.mark.parametrize("domain", [[], ["guest"]])
def test_a_flood_loses_no_channels_last_event(domain: list[str], capsys: Capture) -> None:
    words = ["-b", "sim", "-n", "3000", "-p", "20", "-s", "7"]
    status, (said,) = run(capsys, "flood", *domain, *words)
    assert (status, said["ok"], said["lost"], said["sent"]) == (0, True, 0, 3000)
    assert said["delivered"] + said["coalesced"] == 3000
    assert 20 <= said["delivered"] < 3000


def test_a_flood_for_a_time_ends_by_then(capsys: Capture) -> None:
    status, (said,) = run(capsys, "flood", "-b", "sim", "-t", "0.05")
    assert status == 0
    assert said["ns"] >= 50_000_000


def test_a_lost_event_is_found_out(capsys: Capture) -> None:
    """The other half is deaf to its third channel."""
    water = Water()

    async def dom0(xen: Domain) -> None:
        notify = xen.events.lower.notify
        deaf: list[int] = []

        def losing(port: int) -> None:
            if not deaf or port != deaf[0]:
                notify(port)

        alloc = xen.events.alloc_unbound
        made: list[int] = []

        def allocated(domid: int) -> Any:
            port = alloc(domid)
            made.append(port.number)
            if len(made) == 3:
                deaf.append(port.number)
                port._send = losing
            return port

        xen.events.alloc_unbound = allocated  # type: ignore[method-assign]
        await perform(xen, None, Flood(4, 2, 100, None), water)

    from activations.evtchn import flood

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(flood, "SETTLING", 0.2)
        activations.run(dom0, clock="wall")
    assert water.lost == 1


def test_a_trip_that_is_not_answered_is_lost_and_the_next_goes_on() -> None:
    trips = Trips()

    async def dom0(xen: Domain) -> None:
        notify, sent = xen.events.lower.notify, []

        def losing(port: int) -> None:
            sent.append(port)
            if len(sent) != 8:
                notify(port)

        xen.events.lower.notify = losing  # type: ignore[method-assign]
        await perform(xen, None, Ping(10, 0, 0.05), trips)

    activations.run(dom0, clock="wall")
    assert (trips.sent, trips.lost, len(trips.latencies)) == (10, 1, 9)


def test_an_other_half_that_does_not_come_is_said_to_be_missing() -> None:
    scenario = Scenario("alone")

    @scenario.domain("dom0")
    async def dom0(xen: Domain) -> str:
        with pytest.raises(HalfMissing, match="activations evtchn answer 0"):
            await perform(xen, await xen.find("guest"), Ping(1), Trips(), within=5)
        return "said"

    @scenario.domain("guest")
    async def guest(xen: Domain) -> None:
        await xen.store.write("data/here", "")

    assert scenario.run()["dom0"] == "said"


def test_an_other_half_that_leaves_ends_the_flood() -> None:
    scenario = Scenario("left", clock="wall")

    @scenario.domain("dom0")
    async def dom0(xen: Domain) -> str:
        with pytest.raises((HalfMissing, ExceptionGroup)):
            await perform(xen, await xen.find("guest"), Flood(3, 2, None, None), Water(), within=5)
        return "said"

    @scenario.domain("guest")
    async def guest(xen: Domain) -> None:
        import asyncio

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await answer(xen, 0)

    assert scenario.run()["dom0"] == "said"


def test_ctrl_c_ends_a_watch_with_the_status_that_says_so() -> None:
    words = [ACTIVATIONS, "evtchn", "watch", "dom_exc", "-b", "sim"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout
        assert b"is port" in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait() == 130


def test_a_virq_that_there_is_not_is_refused_with_those_there_are(capsys: Capture) -> None:
    assert main(["evtchn", "watch", "bell"]) == 2
    assert "con_ring" in capsys.readouterr().err


# On a real Xen


def of_lsevtchn(line: str) -> tuple[int, int, str, int | None, int | None, int | None]:
    """Port, vCPU, state, the remote domain and port, the VIRQ's or PIRQ's number."""
    head, _, what = line.partition(": VCPU ")
    vcpu, _, what = what.partition(": ")
    port = int(head)
    if found := INTERDOMAIN.match(what):
        return port, int(vcpu), "interdomain", int(found[1]), int(found[2]), None
    if found := WAITING.match(what):
        return port, int(vcpu), "unbound", int(found[1]), None, None
    name = next(name for name in STATES if what.startswith(name))
    number = what.removeprefix(name).strip()
    return port, int(vcpu), STATES[name], None, None, int(number) if number else None


def sh(lab: Lab, domain: str, script: str, timeout: float = 60.0) -> str:
    status, output = lab.shell(domain, ["sh", "-e", "-c", script], timeout)
    assert status == 0, output
    return output


def typed(lab: Lab, *words: str) -> str:
    """The command, typed in dom0."""
    status, output = lab.shell("dom0", ["activations", "evtchn", *words], 120)
    assert status == 0, output
    return output


@pytest.mark.lab
def test_ls_says_of_each_port_what_lsevtchn_says(lab: Lab) -> None:
    domid = lab.guests({"guest": "pvh"})["guest"]
    for domain in ("0", str(domid)):
        theirs = sh(lab, "dom0", f"{LSEVTCHN} {domain}")
        said = [json.loads(line) for line in typed(lab, "ls", domain, "--json").splitlines()]
        ports = {each["port"]: each for each in said if each["event"] == "port"}
        lines = [of_lsevtchn(line.strip()) for line in theirs.splitlines() if "VCPU" in line]
        for port, *state in lines:
            if state[1] == "unbound" or port not in ports:
                continue
            each = ports[port]
            names = ("vcpu", "state", "remote_domid", "remote_port", "number")
            assert [each[name] for name in names] == state
        known = {port for port, *_ in lines}
        assert known <= ports.keys()
        assert len(ports.keys() - known) <= (domain == "0") * 3, "the command's own"
        if domain == "0":
            assert {"xenstored", "xenconsoled"} <= {each.get("program") for each in said}
        else:
            assert {"xenstore", "console"} <= {each["holder"] for each in ports.values()}


@pytest.mark.lab
def test_bits_come_from_xens_console(lab: Lab) -> None:
    said = typed(lab, "ls", "--bits", "--json")
    ports = [json.loads(line) for line in said.splitlines()]
    bits = [each["pending"] for each in ports if each["event"] == "port"]
    assert bits.count(None) < len(bits) / 2


@pytest.mark.lab
def test_events_go_between_dom0_and_a_guest_by_hand(lab: Lab) -> None:
    domid = lab.guests({"guest": "pvh"})["guest"]
    answering = lab.start("guest", ["activations", "evtchn", "answer", "dom0"])
    *_, pinged = map(json.loads, typed(lab, "ping", "guest", "-n", "50", "--json").splitlines())
    flood = typed(lab, "flood", str(domid), "-n", "2000", "-p", "8", "--json")
    *_, flooded = map(json.loads, flood.splitlines())
    answering.signal(signal.SIGINT)
    assert answering.ended() == 130
    assert (pinged["sent"], pinged["returned"], pinged["lost"]) == (50, 50, 0)
    assert (flooded["sent"], flooded["lost"]) == (2000, 0)


@pytest.mark.lab
def test_watch_hears_what_xen_prints(lab: Lab) -> None:
    watching = lab.start("dom0", ["activations", "evtchn", "watch", "con_ring", "-n", "1"])
    watching.says("is port", 120)
    sh(lab, "dom0", "xl debug-keys h")
    assert watching.ended() == 0
    assert b"con_ring  1" in watching.output
