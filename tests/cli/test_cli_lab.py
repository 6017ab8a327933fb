"""`activations lab cache`, `refresh`, `clean`: what they print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from activations import registry
from activations.backend import Kept
from activations.cli import main
from activations.outcome import Observer


class StandIn:
    """A backend that keeps two things on disk."""

    def __init__(self) -> None:
        self.cleaned: list[bool] = []
        self.newer: list[str] = []
        self.things = [
            Kept("image", Path("/cache/lab/image-1"), 120_400_000, "Xen 4.17"),
            Kept("package lists", Path("/cache/lab/apt"), 600_000, needed=False),
        ]

    def kept(self) -> Sequence[Kept]:
        return self.things

    def refresh(self, observer: Observer) -> Sequence[str]:
        observer.progress("asking")
        return self.newer

    def clean(self, *, old: bool) -> Sequence[Kept]:
        self.cleaned.append(old)
        return [each for each in self.things if not (old and each.needed)]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """What is found under any backend's name."""
    stand_in = StandIn()
    monkeypatch.setattr(registry, "find", lambda name: stand_in)
    return stand_in


def test_the_labs_cache_is_shown_with_sizes(
    lab: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "cache"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        " 120 MB  image: Xen 4.17 (image-1)",
        "   1 MB  package lists (apt)",
        " 121 MB  in /cache/lab",
    ]
    assert main(["lab", "cache", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"][1] == {
        "what": "package lists",
        "path": "/cache/lab/apt",
        "bytes": 600_000,
        "detail": "",
        "needed": False,
    }
    lab.things = []
    assert main(["lab", "cache"]) == 0
    assert "nothing is kept" in capsys.readouterr().out


def test_the_lab_is_refreshed_and_says_what_is_newer(
    lab: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "refresh"]) == 0
    assert capsys.readouterr() == ("Debian has nothing newer\n", "... asking\n")
    lab.newer = ["libc6 2.36 -> 2.37"]
    assert main(["lab", "refresh"]) == 0
    assert capsys.readouterr().out == "libc6 2.36 -> 2.37\n"


def test_the_labs_cache_is_freed(lab: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "clean", "--old"]) == 0
    assert capsys.readouterr().out == "   1 MB  package lists (apt)\n   1 MB  freed\n"
    assert main(["lab", "clean"]) == 0
    assert capsys.readouterr().out.endswith(" 121 MB  freed\n")
    assert lab.cleaned == [True, False]


@pytest.mark.parametrize("command", ["cache", "refresh", "clean"])
def test_no_cache_where_the_backend_shows_none(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "find", lambda name: object())
    assert main(["lab", command]) == 2
    assert "shows no cache" in capsys.readouterr().err
