"""Views of a run, made of its `Moment`s (explore/report.py), which any engine or trace can give.

    traced     moments from a trace
    arrows     which notify a demux is due to, and which demux a wake
    words      what a step does, in a sentence
    slices     a very long run, cut down to what matters
    page       one self-contained HTML file, to be stepped through: page.html, page.css, page.js
    wire       protobuf's wire format
    perfetto   a trace for Perfetto's user interface
    beside     the passing run that is nearest to a failing one
    suffix     which of them a file is to be, by its name

Who has moments calls `page` or `perfetto`.
"""

from xen_sim.views.page import page
from xen_sim.views.perfetto import perfetto

__all__ = ["page", "perfetto"]


def __dir__() -> list[str]:
    return __all__
