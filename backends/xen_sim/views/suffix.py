"""Which view a file is to be, by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from activations.trace import Trace, save
from xen_sim.explore.report import Moment
from xen_sim.explore.verdict import Found
from xen_sim.views import traced
from xen_sim.views.page import page
from xen_sim.views.perfetto import perfetto

PAGE = (".html", ".htm")


def write(path: Path, trace: Trace, title: str) -> None:
    """Write a trace: as a page (`.html`), else for Perfetto (`.pftrace`).

    Raises `BackendError` where it cannot be written.
    """
    suffix = path.suffix.lower()
    moments, actors = traced.moments(trace.events), traced.actors(trace.events)
    data = (
        page(moments, actors, title=title).encode() if suffix in PAGE else perfetto(moments, actors)
    )
    save(path, data, "trace")


def write_page(path: Path, found: Found, title: str, beside: Sequence[Moment] = ()) -> None:
    """Write what an explorer found as a page, beside a run that passes.

    Raises `BackendError` where it cannot be written.
    """
    text = page(
        found.moments,
        found.actors,
        title=title,
        finding=str(found.finding),
        facts=f"token {found.token}",
        beside=beside,
    )
    save(path, text.encode(), "page")


def write_perfetto(path: Path, found: Found) -> None:
    """Write what an explorer found for Perfetto. Raises `BackendError` where it cannot be."""
    save(path, perfetto(found.moments, found.actors), "Perfetto trace")
