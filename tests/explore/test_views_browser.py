"""The page in a browser: it draws what the moments say, and every key does what it says.

Without a browser, tests/explore/test_views_page.py holds the page's data against the moments.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.chromium import Chromium
from support.some_moments import ACTORS, HEARD, LOST, PORT

from xen_sim.explore.report import DEMUX, DEVIATION, NOTIFY, WAKE, Moment
from xen_sim.views.arrows import arrows
from xen_sim.views.page import page

pytestmark = pytest.mark.long

Show = Callable[..., Chromium]

QUIET = [Moment("guest", f"read {n}") for n in range(50)]
LONG = [*HEARD, *QUIET, *LOST[len(HEARD) :]]
"""With a stretch in which nothing changes hands: it is folded."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture
def show(chromium: Chromium, tmp_path: Path) -> Iterator[Show]:
    """Make a page of moments, and open it at a step."""

    def made(moments: list[Moment], at: int | None = 0, **how: object) -> Chromium:
        file = tmp_path / "run.html"
        file.write_text(page(moments, ACTORS, **how))
        chromium.open(file, f"#step={at}" if at is not None else "")
        return chromium

    yield made
    assert chromium.complaints() == []
    fetched = [url for url in chromium.fetched() if not url.startswith(("file:", "about:"))]
    assert fetched == []


def here(browser: Chromium) -> int:
    """The step that is the current one, as the list and the panel say it."""
    at = int(browser.run("here"))
    assert browser.run("document.querySelectorAll('[aria-selected=true]').length") == 1
    active = browser.run("document.getElementById('steps').getAttribute('aria-activedescendant')")
    assert active == browser.run("document.querySelector('[aria-selected=true]').id")
    assert f"tep {at:,} of" in browser.run("document.getElementById('now').textContent")
    return at


def all_of(selector: str, what: str = "textContent") -> str:
    """A script that gives this of each such element."""
    return f"[...document.querySelectorAll({selector!r})].map(each => each.{what})"


def shown(browser: Chromium) -> list[str]:
    """What each line says to who cannot see it."""
    return browser.run(all_of(".row", "getAttribute('aria-label')"))


def lines_of(browser: Chromium) -> int:
    """How many lines there are, on the screen and off it."""
    return int(browser.run("document.querySelector('.row').getAttribute('aria-setsize')"))


def test_every_moment_is_drawn_in_its_lane_with_its_mark(show: Show) -> None:
    browser = show(LOST)
    texts = browser.run(all_of(".row .what"))
    assert texts == [f"{m.what}  {m.note}" if m.note else m.what for m in LOST]
    marks = browser.run(all_of(".row .mark"))
    assert marks == [m.mark for m in LOST if m.mark]
    lanes = browser.run(all_of(".row .what", "style.left"))
    by_actor = {actor: set() for actor in ACTORS}
    for moment, lane in zip(LOST, lanes, strict=True):
        by_actor[moment.actor].add(lane)
    assert all(len(each) == 1 for each in by_actor.values())
    assert by_actor["dom0"] != by_actor["guest"]


def test_arrows_are_drawn_from_notify_to_demux_to_wake_and_what_is_lost_has_a_cross(
    show: Show,
) -> None:
    browser = show(LOST)
    paths = "#arrows path[data-from]"
    kinds, begins, ends = (
        browser.run(all_of(paths, f"getAttribute('{name}')"))
        for name in ("class", "data-from", "data-to")
    )
    drawn = list(zip(kinds, begins, ends, strict=True))
    whole = [each for each in drawn if each[0] != "lost"]
    assert whole == [(arrow.kind, str(arrow.origin), str(arrow.end)) for arrow in arrows(LOST)]
    assert [each[1] for each in drawn if each[0].startswith("lost")] == ["6"]


@pytest.mark.parametrize(
    ("begin", "keys", "end"),
    [
        (0, ["ArrowDown"], 1),
        (0, ["ArrowRight", "j"], 2),
        (5, ["ArrowUp", "ArrowLeft", "k"], 2),
        (0, ["ArrowUp"], 0),
        (3, ["Home"], 0),
        (3, ["End"], 8),
        (8, ["ArrowDown"], 8),
        (0, ["PageDown"], 8),
        (8, ["PageUp"], 0),
        (0, ["m"], 5),
        (0, ["m", "m"], 8),
        (8, ["M"], 5),
        (2, ["Enter"], 3),
        (2, ["Enter", "Enter"], 4),
        (4, ["Backspace", "Backspace"], 2),
        (0, ["/", *"yield", "Enter"], 7),
        (0, ["/", *"port 1", "Enter", "n"], 4),
        (0, ["/", *"port 1", "Enter", "n", "N"], 3),
        (2, ["/", *"nosuch", "Enter", "Escape", "ArrowDown"], 3),
        (2, ["?", "Escape", "ArrowDown"], 3),
    ],
)
def test_a_key_goes_where_the_help_says(begin: int, keys: list[str], end: int, show: Show) -> None:
    browser = show(LOST, begin)
    browser.press(*keys)
    assert here(browser) == end


def test_the_help_says_every_key_and_holds_the_others_back(show: Show) -> None:
    browser = show(LOST, 2)
    browser.press("?")
    assert browser.run("document.getElementById('help').open")
    browser.press("ArrowDown")
    assert here(browser) == 2
    said = browser.run(all_of("#help kbd"))
    names = {"↓": "ArrowDown", "→": "ArrowRight", "↑": "ArrowUp", "←": "ArrowLeft"}
    names |= {"Page Down": "PageDown", "Page Up": "PageUp"}
    assert {names.get(each, each) for each in said} - {"Esc"} == set(
        browser.run("Object.keys(keys)")
    )
    browser.press("Escape")
    assert not browser.run("document.getElementById('help').open")


def test_the_panel_says_the_step_in_words_with_its_line_of_source(show: Show) -> None:
    browser = show(LOST, 5)
    said = browser.run("document.getElementById('now').innerText")
    assert "Sleeps until an interrupt comes".lower() in said.lower()
    assert "solo5.c:81" in said
    assert "another one ran first" in said
    browser.press("ArrowDown")
    assert "no demux takes it" in browser.run("document.getElementById('now').innerText")


def test_the_panel_says_the_state_of_each_port_at_this_step(show: Show) -> None:
    browser = show(LOST, 0)
    state = ""
    for at, moment in enumerate(LOST):
        state = dict(moment.changes).get(PORT, state)
        cells = browser.run(all_of("#states td"))
        assert (here(browser), cells[:2]) == (at, [PORT, state])
        browser.press("ArrowDown")


def test_a_page_opens_at_the_step_where_it_went_wrong(show: Show) -> None:
    assert here(show(LOST, None)) == len(LOST) - 1
    assert here(show(HEARD, None)) == 0


def test_the_address_names_the_step(show: Show) -> None:
    browser = show(LOST, 3)
    browser.press("ArrowDown")
    while browser.run("location.hash") != "#step=4":
        time.sleep(0.01)


def test_what_changes_nothing_is_folded_and_unfolds(show: Show) -> None:
    browser = show(LONG, 0)
    (folded,) = [each for each in shown(browser) if "more" in each]
    count = int(folded.split(", ")[1].split()[0])
    assert lines_of(browser) == len(LONG) - count + 1
    browser.press("f")
    assert lines_of(browser) == len(LONG)
    browser.press("f", "/", *"read 30", "Enter")
    assert here(browser) == LONG.index(QUIET[30]), "a search finds what is folded, and unfolds it"
    assert any("read 30" in each for each in shown(browser))


def test_the_passing_run_is_drawn_beside_from_the_first_step_that_differs(show: Show) -> None:
    passing = [*HEARD, Moment("guest", "hlt"), Moment("guest", "eoi")]
    browser = show(LOST, 5, beside=passing, names=("the one", "the other"))
    lines = shown(browser)
    assert [at for at, line in enumerate(lines) if "beside it" in line] == [5, 6]
    assert "beside it guest, hlt" in lines[5]
    said = browser.run("document.getElementById('now').innerText")
    assert "the one, step" in said
    assert "the other, step" in said
    assert browser.run("document.querySelector('.parting').dataset.at") == "5"
    browser.press("End")
    assert "the other: over by now" in browser.run("document.getElementById('now').innerText")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_to_be_read_stands_out_in_light_and_dark(scheme: str, show: Show) -> None:
    """Contrast by WCAG 2's formula: 4.5 for texts, 3 for signs."""
    browser = show(LOST, 5)
    browser.colours(scheme)
    names = ["ink", "soft", "wrong", "turn", "said", "edge", "lane0", "lane1", "lane2", "lane3"]
    values = browser.run(
        f"""(() => {{
          const pen = document.createElement('canvas').getContext(
            '2d', {{ willReadFrequently: true }});
          const style = getComputedStyle(document.documentElement);
          const of = (name) => {{
            pen.fillStyle = style.getPropertyValue('--' + name);
            pen.fillRect(0, 0, 1, 1);
            return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
          }};
          return {[*names, "paper", "raised"]}.map(of);
        }})()"""
    )
    *inks, paper, raised = (brightness(value) for value in values)
    assert (paper > 0.5) == (scheme == "light")
    for name, ink in zip(names, inks, strict=True):
        for ground in (paper, raised):
            least = 3 if name == "edge" else 4.5
            assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= least, name


def brightness(colour: list[int]) -> float:
    """Relative luminance of an sRGB colour."""
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_hundred_thousand_moments_are_stepped_through_at_once(show: Show) -> None:
    """As few elements as fit the window, and a step takes less than a tenth of a second."""
    turn = [
        Moment("dom0", "send port 3", events=((NOTIFY, PORT),), changes=((PORT, "pending"),)),
        Moment("guest", "demux port 1", events=((DEMUX, PORT),), changes=((PORT, "clear"),)),
        Moment("guest", "wake port 1", events=((WAKE, PORT),)),
        Moment("guest", "about to hlt", DEVIATION),
    ]
    browser = show(turn * 25_000, 0)
    browser.press("End", "ArrowUp")
    assert here(browser) == 99_998
    assert browser.run("document.querySelectorAll('*').length") < 2000
    browser.run("performance.mark('begin')")
    took = browser.run(
        "(() => { const began = performance.now(); for (let i = 0; i < 100; i++) go(i * 997);"
        " return (performance.now() - began) / 100; })()"
    )
    assert took < 100, f"{took:.1f} ms a step"
