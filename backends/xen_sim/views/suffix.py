"""Which view a file is to be, by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from activations.errors import BackendError
from xen_sim.explore.report import Moment
from xen_sim.explore.verdict import Found
from xen_sim.trace import Trace
from xen_sim.views import traced
from xen_sim.views.page import page
from xen_sim.views.perfetto import perfetto

PAGE = (".html", ".htm")
PERFETTO = (".pftrace", ".perfetto-trace")


def write(path: Path, trace: Trace, title: str) -> None:
    """Write a trace: as a page (`.html`), for Perfetto (`.pftrace`), else a line of JSON each.

    Raises `BackendError` where it cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix in PAGE:
        actors = traced.actors(trace.events)
        data = page(traced.moments(trace.events), actors, title=title).encode()
    elif suffix in PERFETTO:
        data = perfetto(traced.moments(trace.events), traced.actors(trace.events))
    else:
        data = trace.lines().encode()
    _save(path, data, "trace")


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
    _save(path, text.encode(), "page")


def write_perfetto(path: Path, found: Found) -> None:
    """Write what an explorer found for Perfetto. Raises `BackendError` where it cannot be."""
    _save(path, perfetto(found.moments, found.actors), "Perfetto trace")


def _save(path: Path, data: bytes, what: str) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise BackendError(f"the {what} is lost: {path}: {error.strerror}") from error
