"""The page: what is in it, without a browser. test_views_browser.py has one draw it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from support.some_moments import ACTORS, HEARD, LOST, PORT, moments

from activations import BlockedForever, Domain
from activations.cli import main
from activations.errors import BackendError
from xen_sim import Choice, Machine, Schedule, Solo5, Tape, Trace
from xen_sim.explore.course import Course, course
from xen_sim.explore.engine import Account, Program, Run
from xen_sim.explore.finding import LOST_WAKEUP, Finding
from xen_sim.explore.looking import Looking
from xen_sim.explore.report import DEMUX, DEVIATION, NOTIFY, WAKE, WRONG, Moment
from xen_sim.explore.verdict import Found
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.linux_fifo import LinuxFifo
from xen_sim.guests.solo5_2020 import with_faults
from xen_sim.views import suffix, traced
from xen_sim.views.arrows import arrows, lost
from xen_sim.views.beside import nearest
from xen_sim.views.page import page, same
from xen_sim.views.perfetto import perfetto
from xen_sim.views.slices import bounded
from xen_sim.views.words import words

VOID = {"meta", "input", "br", "link", "img"}


class Reading(HTMLParser):
    """Holds that what is opened is closed, in order; keeps attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> of nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            name = dict(self.attributes[-1][1]).get("id") or self.open[-1]
            self.texts[name] = self.texts.get(name, "") + data


def read(text: str) -> dict[str, Any]:
    return json.loads(Reading(text).texts["data"])


def told(data: dict[str, Any], run: int = 0) -> list[Moment]:
    """The moments that the page's data says."""
    strings, columns, ns = data["strings"], data["runs"][run], 0
    found = []
    for number, actor in enumerate(columns["actor"]):
        ns += columns["ns"][number]
        changes = tuple(
            (data["tracks"][track], strings[state])
            for at, track, state in columns["changes"]
            if at == number
        )
        what, mark, note = (strings[columns[name][number]] for name in ("whats", "marks", "notes"))
        found.append(Moment(data["actors"][actor], what, mark, note, ns, changes=changes))
    return found


def without_events(run: list[Moment]) -> list[Moment]:
    return [Moment(m.actor, m.what, m.mark, m.note, m.ns, changes=m.changes) for m in run]


@settings(max_examples=40)
@given(moments())
def test_what_is_in_the_page_is_the_run(run: list[Moment]) -> None:
    data = read(page(run, ACTORS))
    assert told(data) == without_events(run)
    ends = {WAKE: 1, DEMUX: 0}
    assert [
        (a, b, data["tracks"][port], kind) for a, b, port, kind in data["runs"][0]["arrows"]
    ] == [(arrow.origin, arrow.end, arrow.port, ends[arrow.kind]) for arrow in arrows(run)]
    assert [(at, data["tracks"][port]) for at, port in data["runs"][0]["lost"]] == lost(run)


def test_lanes_come_in_the_order_that_is_given() -> None:
    assert read(page(LOST, ["guest", "dom0"]))["actors"] == ["guest", "dom0"]
    assert read(page(LOST))["actors"] == ["guest", "dom0"]
    assert read(page(LOST, ACTORS))["actors"] == ["dom0", "guest"]


def test_the_page_is_whole_html_and_fetches_nothing() -> None:
    text = page(
        LOST, ACTORS, title="<b>&", finding="</p><script>", facts="token x1-a", beside=HEARD
    )
    reading = Reading(text)
    for tag, attributes in reading.attributes:
        assert tag not in ("link", "img", "iframe", "base", "object"), tag
        assert not {"src", "href", "srcset", "action", "data", "poster"} & set(attributes), tag
    script = reading.texts["script"]
    assert "@import" not in text
    assert "url(" not in text
    for reaches_out in ("fetch(", "XMLHttpRequest", "WebSocket", "sendBeacon", "import(", "eval("):
        assert reaches_out not in script
    urls = set(re.findall(r"\w+://[^\s\"'`)]+", text))
    assert urls == {"http://www.w3.org/2000/svg"}, "the name of SVG, which nobody fetches"
    assert "default-src 'none'" in text
    assert reading.texts["h1"] == "<b>&"
    assert reading.texts["finding"].strip() == "</p><script>"


def test_what_a_reader_of_screens_needs_is_there() -> None:
    attributes = Reading(page(LOST)).attributes
    roles = {attrs["role"] for _, attrs in attributes if "role" in attrs}
    assert roles >= {"listbox", "status", "search"}
    by_id = {attrs["id"] for _, attrs in attributes if "id" in attrs}
    for _, attrs in attributes:
        for refers in ("aria-labelledby", "aria-describedby", "for"):
            assert attrs.get(refers) is None or attrs[refers] in by_id
    (html,) = [attrs for tag, attrs in attributes if tag == "html"]
    assert html == {"lang": "en"}


def test_the_run_beside_it_begins_where_the_first_step_differs() -> None:
    failing = [*HEARD, Moment("guest", "about to hlt", DEVIATION)]
    passing = [*HEARD, Moment("guest", "hlt"), Moment("guest", "eoi")]
    data = read(page(failing, ACTORS, beside=passing, names=("fails", "passes")))
    assert data["same"] == same(failing, passing) == len(HEARD)
    assert told(data, 1) == without_events(passing)
    assert data["names"] == ["fails", "passes"]
    assert same(HEARD, HEARD[:2]) == 2


def test_a_run_of_nothing_is_a_page_too() -> None:
    assert read(page([]))["runs"][0]["actor"] == []


def test_a_very_long_run_is_cut_down_to_what_is_beside_marks_and_its_ends() -> None:
    run = [Moment("guest", f"step {n}", changes=((PORT, str(n)),)) for n in range(3000)]
    run[1500] = Moment("guest", "about to hlt", DEVIATION)
    shown = bounded(run, 1000)
    assert len(shown) <= 1003
    assert shown[0] == run[0]
    assert shown[-1] == run[-1]
    whole = [m for m in shown if "left out" not in m.what]
    assert [m for m in run if m in whole] == whole
    assert run[1500] in shown
    assert run[1400] in shown
    left = [int(m.what.split()[1].replace(",", "")) for m in shown if "left out" in m.what]
    assert sum(left) + len(whole) == len(run)
    (first, *_) = [m for m in shown if "left out" in m.what]
    assert first.changes == ((PORT, "1299"),), "the state that it leaves behind"
    assert bounded(run, 3000) == run


def test_a_hundred_thousand_moments_make_a_page_of_a_few_megabytes() -> None:
    run = [
        Moment(*(("dom0", "send port 3") if n % 2 else ("guest", "demux port 1")), ns=n * 1000)
        for n in range(100_000)
    ]
    assert len(page(run)) < 3_000_000
    assert len(page(run * 3)) < 4_000_000


def test_the_template_is_in_the_package() -> None:
    for name in ("page.html", "page.css", "page.js"):
        assert files("xen_sim.views").joinpath(name).is_file()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("hlt", "Sleeps until an interrupt comes"),
        ("about to hlt", "Another one runs first; its own next step: sleeps until an interrupt"),
        ("bts evtchn_pending of guest", "which ports have an event (guest's), and sees whether"),
        ("read items", "Reads items"),
        ("hypercall EVTCHNOP_send", "Notifies the other end"),
        ("send port 3", "Notifies the other end"),
        ("lost wake-up", ""),
        ("", ""),
    ],
)
def test_a_step_is_said_in_words(what: str, said: str) -> None:
    assert said in words(what)
    assert bool(words(what)) == bool(said)


# Moments of a real run: from its trace, and by looking.


async def dom0(xen: Domain) -> None:
    guest = await xen.find("guest")
    with xen.events.alloc_unbound(guest) as port:
        await xen.store.write(f"/local/domain/{guest}/data/port", port.number)
        for _ in range(3):
            await port.wait()


async def guest(xen: Domain) -> None:
    number = int(await xen.store.wait_for("data/port"))
    with xen.events.bind_interdomain(0, number) as port:
        for _ in range(3):
            port.notify()
            await asyncio.sleep(1)


@pytest.fixture(scope="module")
def trace() -> list[dict[str, Any]]:
    kept = Trace()
    machine = Machine(trace=kept)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()
    return kept.events


def test_a_trace_tells_each_send_as_far_as_who_is_woken(trace: list[dict[str, Any]]) -> None:
    told = traced.moments(trace)
    assert [m.ns for m in told] == [event["ns"] for event in trace]
    (bound,) = [event for event in trace if event["what"] == "alloc_unbound"]
    port = f"dom0 port {bound['port']}"
    hops = [arrow for arrow in arrows(told) if arrow.port == port]
    assert [hop.kind for hop in hops] == [DEMUX, WAKE] * 3
    for hop in hops:
        began, ended = told[hop.origin], told[hop.end]
        assert began.actor == ("guest" if hop.kind == DEMUX else "dom0")
        assert ended.actor == "dom0"
        assert ended.what.split()[0] == hop.kind


def test_a_trace_tells_the_states_of_ports(trace: list[dict[str, Any]]) -> None:
    (bound,) = [event for event in trace if event["what"] == "alloc_unbound"]
    port = f"dom0 port {bound['port']}"
    states = [state for m in traced.moments(trace) for row, state in m.changes if row == port]
    assert states == ["unbound", "clear", *["pending", "clear"] * 3, "closed"]


def test_what_a_port_was_sent_while_pending_has_no_arrow() -> None:
    send = Moment("dom0", "send", events=((NOTIFY, PORT),))
    run = [send, send, Moment("guest", "demux", events=((DEMUX, PORT),))]
    assert [(arrow.origin, arrow.end) for arrow in arrows(run)] == [(0, 2)]
    assert lost(run) == []
    assert lost(run[:2]) == [(0, PORT)]


class Told(Tape):
    """Another tape; each choice is a moment, and what changed by the next is looked at."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.look: Callable[[], Any] | None = None
        self.moments: list[Moment] = []

    def choose(self, choice: Choice) -> int:
        answer = self._tape.choose(choice)
        if self.look is not None:
            events, changes = self.look()
            mark = DEVIATION if answer else ""
            who = choice.options[answer] if choice.step is None else choice.options[0]
            self.moments.append(Moment(who, choice.point, mark, "", 0, events, changes))
        return answer


def june_2020(kernel: type[Kernel], looked_at: bool) -> tuple[list[Moment], Any]:
    """A guest about to sleep, and dom0 that sends just then. What was seen, and how it ended."""
    schedule = Schedule(("guest: hlt", "dom0"), armed=False)
    told = Told(schedule)

    async def guest(xen: Domain) -> None:
        with xen.events.alloc_unbound(0) as port:
            await asyncio.sleep(1)  # dom0 has bound by then
            schedule.arm()
            port.notify()
            await port.wait()

    async def dom0(xen: Domain) -> None:
        await asyncio.sleep(0.5)  # the guest has allocated its port by then
        with xen.events.bind_interdomain(1, 2) as port:
            await port.wait()  # binding's own event
            await port.wait()  # the guest is ready
            port.notify()

    machine = Machine(tape=told, explore=True)
    machine.boot("guest", guest, kernel=kernel)
    machine.boot("dom0", dom0)
    if looked_at:
        told.look = Looking(machine)
    try:
        return told.moments, machine.run()
    except BlockedForever as error:
        return told.moments, str(error)


@pytest.mark.parametrize("kernel", [Solo5, LinuxFifo, with_faults(4)])
def test_to_look_at_a_run_changes_nothing_of_it(kernel: type[Kernel]) -> None:
    assert june_2020(kernel, True)[1] == june_2020(kernel, False)[1]


@pytest.mark.parametrize("kernel", [Solo5, LinuxFifo])
def test_looking_sees_an_event_sent_taken_and_heard(kernel: type[Kernel]) -> None:
    seen, _ = june_2020(kernel, True)
    port = next(row for m in seen for row, _ in m.changes if row.startswith("guest port 2"))
    kinds = [kind for m in seen for kind, row in m.events if row == port]
    assert kinds[:2] == [NOTIFY, DEMUX]
    assert WAKE in kinds
    states = [state for m in seen for row, state in m.changes if row == port]
    assert "pending" in " ".join(states)
    assert "masked" in " ".join(states)


def test_looking_sees_the_wake_up_that_is_lost() -> None:
    seen, ended = june_2020(with_faults(4), True)
    assert "nothing can ever happen again" in ended
    assert [port for _, port in lost(seen)] == ["guest port 2"]
    assert not lost(june_2020(Solo5, True)[0])


# What an explorer found, and the run beside it.


class Runs:
    """An engine whose runs fail with these deviations; it notes which it was asked to make."""

    program = Program("it", "it")

    def __init__(self, *fails: Course) -> None:
        self._fails = fails
        self.asked: list[Course] = []

    def run(self, tape: Tape) -> Run:
        return self.tell(tape).run

    def tell(self, tape: Tape) -> Account:
        answers = [tape.choose(Choice(f"guest: {n}", ("guest", "dom0"))) for n in range(10)]
        taken = course(*[(at, answer) for at, answer in enumerate(answers) if answer])
        self.asked.append(taken)
        wrong = Finding(LOST_WAKEUP, "port 1") if taken in self._fails else None
        run = Run(taken, b"", b"", 10, frozenset(), {}, wrong)
        return Account(run, (), (Moment("guest", str(taken)),), ("guest",))


def test_the_nearest_passing_run_is_the_one_that_goes_the_same_way_for_longest() -> None:
    failing = course((2, 1), (5, 1), (7, 1))
    engine = Runs(failing, failing[:2])
    account = nearest(engine, failing)
    assert account is not None
    assert account.run.course == failing[:1]
    assert engine.asked == [failing[:2], failing[:1]]


def test_where_the_ordinary_course_fails_too_there_is_none_beside_it() -> None:
    failing = course((2, 1))
    assert nearest(Runs(failing, ()), failing) is None
    assert nearest(Runs(()), ()) is None


def test_what_was_found_is_written_with_its_token_and_what_went_wrong(tmp_path: Path) -> None:
    found = Found(Finding(LOST_WAKEUP, "port 1"), "x1-abc", (), tuple(LOST), ACTORS)
    suffix.write_page(tmp_path / "a", found, "it", HEARD)
    text = (tmp_path / "a").read_text()
    assert told(read(text), 0) == without_events(LOST)
    assert told(read(text), 1) == without_events(HEARD)
    assert Reading(text).texts["facts"].strip() == "token x1-abc"
    assert read(text)["finding"] == "lost wake-up: port 1"
    suffix.write_perfetto(tmp_path / "b", found)
    assert (tmp_path / "b").read_bytes() == perfetto(LOST, ACTORS)


def test_what_cannot_be_written_is_one_clear_error() -> None:
    found = Found(Finding(LOST_WAKEUP, "port 1"), "x1-abc", ())
    with pytest.raises(BackendError, match="the page is lost: /dev/full: No space left"):
        suffix.write_page(Path("/dev/full"), found, "it")
    with pytest.raises(BackendError, match="the Perfetto trace is lost: /nosuch/t: No such file"):
        suffix.write_perfetto(Path("/nosuch/t"), found)


# As a user asks for it.

HELLO = """
from activations import Scenario
it = Scenario("it")

@it.domain("dom0")
async def hello(xen):
    print("hello")
"""


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("out.html", b"<!DOCTYPE html>"),
        ("OUT.HTM", b"<!DOCTYPE"),
        ("t.pftrace", b"\x0a"),
        ("t", b"{"),
    ],
)
def test_run_makes_the_view_that_the_file_is_named_for(
    name: str, begins: bytes, tmp_path: Path
) -> None:
    (tmp_path / "it.py").write_text(HELLO)
    out = tmp_path / name
    assert main(["run", str(tmp_path / "it.py"), "--trace", str(out)]) == 0
    assert out.read_bytes().startswith(begins)


def test_a_mark_is_never_without_its_sign() -> None:
    assert {told.mark for told in told(read(page(LOST)))} == {"", DEVIATION, WRONG}
