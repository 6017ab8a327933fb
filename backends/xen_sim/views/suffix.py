"""Which view a file is to be, by its name."""

from __future__ import annotations

from pathlib import Path

from activations.errors import BackendError
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
    try:
        path.write_bytes(_bytes(path.suffix.lower(), trace, title))
    except OSError as error:
        raise BackendError(f"the trace is lost: {path}: {error.strerror}") from error


def _bytes(suffix: str, trace: Trace, title: str) -> bytes:
    if suffix in PAGE:
        shown = traced.moments(trace.events)
        return page(shown, traced.actors(trace.events), title=title).encode()
    if suffix in PERFETTO:
        return perfetto(traced.moments(trace.events), traced.actors(trace.events))
    return trace.lines().encode()
