"""The pictures in docs/pictures: the demo's tables, as a terminal shows them; and the page of a run
that loses a wake-up, as Chromium does.

PYTHONPATH=tests python -m support.pictures
"""

from __future__ import annotations

import io
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from activations.cli import main
from activations.cli.demo import command
from activations.cli.demo.view import View
from support.chromium import Chromium
from support.places import DOCS, EXAMPLES

PICTURES = DOCS / "pictures"
LOST = EXAMPLES / "museum" / "hlt_with_interrupts_on.py"
SENT = "#step=5"
"""Where its event is sent that nobody takes."""
WIDTH = 92
FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}">
<title>activations demo</title>
<style>
.{unique_id}-matrix {{
    font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
    font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""
"""As rich's own, without the font that it would fetch."""


class Drawn(View):
    """What is there at the end, kept."""

    kept: Console

    def __init__(self) -> None:
        super().__init__()
        self.out = Drawn.kept = Console(
            file=io.StringIO(), record=True, force_terminal=True, width=WIDTH, highlight=False
        )
        self.out.print(Text.assemble(("$ ", "dim"), ("activations demo", "bold")))

    def _show(self) -> None:
        pass


def demo() -> str:
    command.View = Drawn  # type: ignore[misc]
    assert main(["demo"]) == 0
    return Drawn.kept.export_svg(title="", code_format=FORMAT, unique_id="demo")


def lost_wakeup() -> bytes:
    with TemporaryDirectory() as folder, Chromium() as browser:
        page = Path(folder) / "lost.html"
        with chdir(folder):  # what was found before is elsewhere
            assert main(["explore", str(LOST), "--html", str(page)]) == 1
        browser.ask(
            "Emulation.setDeviceMetricsOverride",
            **{"width": 1240, "height": 720, "deviceScaleFactor": 1, "mobile": False},
        )
        browser.open(page, SENT)
        return browser.picture()


if __name__ == "__main__":
    (PICTURES / "demo.svg").write_text(demo())
    (PICTURES / "lost-wakeup.png").write_bytes(lost_wakeup())
