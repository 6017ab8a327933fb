"""docs/museum.md, written from the exhibits and from what the explorer says of them.

    PYTHONPATH=tests python -m museum_page

The tests hold the page against the same functions, exhibit by exhibit.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from difflib import unified_diff
from functools import cache

from support.places import DOCS, EXAMPLES

from activations.scenario import load_one
from xen_kernel import KERNELS, Scenario, decide
from xen_sim.explore.portfolio import PORTFOLIO
from xen_sim.explore.programs import Programs
from xen_sim.explore.search import Effort, explore
from xen_sim.explore.verdict import Found, Verdict

MUSEUM = EXAMPLES / "museum"
PAGE = DOCS / "museum.md"

JUNE_2020 = (
    "unmask_tests_the_mask",
    "handler_clears_the_flag",
    "port_left_unmasked",
    "hlt_with_interrupts_on",
)
LOWER_HALVES = (
    "flag_cleared_after_the_scan",
    "flag_never_cleared",
    "unmask_without_a_look",
    "unmask_of_an_unmasked_port",
    "masked_port_delivered",
    "pending_cleared_after_the_handler",
    "pending_word_not_locked",
    "pending_word_swapped",
    "upcall_for_nothing",
    "fifo_link_lost",
    "poll_of_128_ports",
    "interval_for_absolute_time",
)
ABOVE = (
    "waking_inside_the_scan",
    "stale_counter",
    "notified_too_early",
    "final_check_left_out",
    "responses_slept_through",
)
HALLS = {
    "June 2020, Solo5 on PVHv2": JUNE_2020,
    "Lower halves": LOWER_HALVES,
    "Upper halves and drivers": ABOVE,
}
EXHIBITS = tuple(name for hall in HALLS.values() for name in hall)
IN_C = "missing_fence"
"""What only the engine for C shows."""

COLUMNS = (PORTFOLIO, "first-come", "walk", "pct", "delays", "preemptions", "coverage")
"""Strategies whose runs are counted."""
MOST = 1_000
"""Runs that a strategy is given."""
PREEMPTIONS = 2
"""With which a cure is exhausted."""
LARGE = {
    "unmask_tests_the_mask",
    "unmask_without_a_look",
    "unmask_of_an_unmasked_port",
    "waking_inside_the_scan",
    "responses_slept_through",
}
"""Whose cure has thousands of courses with two: one preemption there."""
WIDTH = 40
"""Of a column of a trace."""

HEAD = """\
# A museum of event-channel bugs

Faults of kernels, unikernels and drivers, of a kind that people looked for over days. Each stands
in a file of its own in [examples/museum](../examples/museum), as small as it can be, with its cure
beside it. The explorer finds each by itself:

    activations explore examples/museum/hlt_with_interrupts_on.py
    activations explore examples/museum/hlt_with_interrupts_on.py::cured --preemptions 2

How many runs that took, by strategy ([explorer.md](explorer.md#how-it-searches)), of {most:,} at
most; and what its cure was held to: the runs that exhaust it at {preemptions} preemptions, or at 1
where that is said.

{figures}

One more, [the last](#{fence}), is not in the table: it takes the engine for C.

Below, the code stands as what the cure takes away and what it puts in its place; then the shortest
course that was found. This page is written by a command, and the tests hold it against what the
explorer says:

    PYTHONPATH=tests python -m museum_page
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of an exhibit in words."""

    title: str
    text: str


def engine(name: str, which: str = "") -> Programs:
    return load_one(f"{MUSEUM / name}.py{which}", Programs)


def cured(name: str) -> Programs:
    return engine(name, "::cured")


@cache
def found(name: str, strategy: str = PORTFOLIO) -> Found | None:
    """What the explorer finds by itself, if it does."""
    effort = Effort(runs=MOST, seconds=None, strategy=strategy)
    verdict = explore(engine(name), effort)
    return verdict.found[0] if verdict.found else None


def held(name: str) -> Verdict:
    """What it says of the cure."""
    limit = 1 if name in LARGE else PREEMPTIONS
    effort = Effort(seconds=None, strategy="preemptions", limit=limit)
    return explore(cured(name), effort)


# The words and the code


def told(name: str) -> Told:
    said = ast.get_docstring(ast.parse((MUSEUM / f"{name}.py").read_text()))
    assert said is not None
    title, _, text = said.partition("\n\n")
    return Told(title.rstrip("."), text)


def difference(name: str) -> str:
    """The faulty code and its cure, as a difference."""
    source = (MUSEUM / f"{name}.py").read_text()
    faulty, better = (_code(source, word) for word in ("faulty", "cured"))
    lines = list(unified_diff(faulty, better, n=len(faulty), lineterm=""))
    return "\n".join(line.rstrip() for line in lines[3:])


def _code(source: str, word: str) -> list[str]:
    """The classes and functions of this name, without it, and without what is said of them."""
    lines: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name.lower().startswith(word):
            node.name = node.name[len(word) :].lstrip("_")
            if ast.get_docstring(node) is not None:
                del node.body[0]
            part = source.splitlines()[node.body[0].lineno - 1 : node.end_lineno]
            lines += [f"{_head(node)}:", *part]
    return lines


def _head(node: ast.ClassDef | ast.FunctionDef) -> str:
    if isinstance(node, ast.FunctionDef):
        return f"def {node.name}({', '.join(each.arg for each in node.args.args)})"
    return f"class Kernel({', '.join(map(ast.unparse, node.bases))})"


# The figures


def figures(name: str) -> list[str]:
    """In how many runs each strategy found it."""
    return [_runs(found(name, strategy)) for strategy in COLUMNS]


def _runs(one: Found | None) -> str:
    return f"{one.runs:,}" if one else "none"


def row(name: str, verdict: Verdict) -> str:
    cells = [f"[{name}](#{anchor(told(name).title)})", *figures(name), _cure(verdict)]
    return f"| {' | '.join(cells)} |"


def _cure(verdict: Verdict) -> str:
    at = f" at {verdict.bound}" if verdict.bound == 1 else ""
    return f"{verdict.figures.runs:,}{at}"


def anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    kept = (letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return "".join(kept).replace(" ", "-")


# The page


def _words(said: Told, file: str) -> str:
    return f"### {said.title}\n\n{said.text}\n\n[{file}](../examples/museum/{file})\n"


def section(name: str) -> str:
    one = found(name)
    assert one is not None
    code = f"```diff\n{difference(name)}\n```\n"
    return "\n".join([_words(told(name), f"{name}.py"), code, _trace(one)])


def _trace(one: Found) -> str:
    return f"```\n{one.table(WIDTH)}\n\n{one.finding}\n```\n"


@cache
def fence(*, cure: bool) -> Verdict:
    """What the engine for C says of the missing fence, and of its cure."""
    harness = MUSEUM / f"{IN_C}.c"
    defines = ("CURED",) if cure else ()
    solo5 = (KERNELS / "solo5.c",)
    return decide(Scenario(solo5, harness=harness, defines=defines, sends=1, buffers=True))


def told_in_c() -> Told:
    comment = (MUSEUM / f"{IN_C}.c").read_text().removeprefix("/*\n").partition(" */\n")[0]
    lines = [line.removeprefix(" *").removeprefix(" ") for line in comment.splitlines()]
    title, _, text = "\n".join(lines).strip().partition("\n\n")
    return Told(title.rstrip("."), text)


def section_in_c() -> str:
    code = (MUSEUM / f"{IN_C}.c").read_text()
    fences = code[code.index("#ifdef CURED") : code.index("#endif")] + "#endif\n\n"
    part = fences + code[code.index("static void back") : code.index("void explore_setup")].rstrip()
    one = fence(cure=False).found[0]
    words = _words(told_in_c(), f"{IN_C}.c")
    return "\n".join([words, f"```c\n{part}\n```\n", _trace(one)])


def page() -> str:
    names = " | ".join(COLUMNS)
    lines = [f"| | {names} | cure |", f"|---|{'---:|' * (len(COLUMNS) + 1)}"]
    lines += [row(name, held(name)) for name in EXHIBITS]
    parts = [
        HEAD.format(
            most=MOST,
            preemptions=PREEMPTIONS,
            figures="\n".join(lines),
            fence=anchor(told_in_c().title),
        )
    ]
    for hall, exhibits in HALLS.items():
        parts += [f"## {hall}\n", *map(section, exhibits)]
    return "\n".join([*parts, "## What Python cannot show\n", section_in_c()])


if __name__ == "__main__":
    PAGE.write_text(page())
