"""What the machine room has shown: how much, how fast, and whether it is right.

The domains tell what each of them saw; here it is compared. A guest that read, or heard, something
else than the other end has, fails the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from activations.cli.output import size, span
from activations.outcome import Outcome

SHOWN = 12
"""Digits of a digest that are shown."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One of the things that went on."""

    what: str
    amount: str
    speed: str
    ok: bool
    why: str
    """What was compared with what, and how that ended."""


def judge(outcome: Outcome) -> list[Finding]:
    """Compare what the domains saw; none if they did not get to their ends.

    What is wrong is added to the outcome's failures, what was found to its facts.
    """
    if outcome.failures:
        return []
    dom0, alice, bob = (outcome.results[name] for name in ("dom0", "alice", "bob"))
    findings = [
        _disk(dom0["image"], alice["disk"]),
        _packets(alice["pings"], dom0["switch"]),
        _vchan(alice["vchan"], bob["vchan"]),
    ]
    outcome.facts["findings"] = [asdict(finding) for finding in findings]
    outcome.failures |= {finding.what: finding.why for finding in findings if not finding.ok}
    return findings


def _disk(image: Mapping[str, Any], disk: Mapping[str, Any]) -> Finding:
    ok = (image["bytes"], image["sha256"]) == (disk["bytes"], disk["sha256"])
    if ok:
        why = f"SHA-256 {_short(image)} at both ends"
    else:
        why = (
            f"alice read something else than {image['name']} in dom0 holds: "
            f"SHA-256 {_short(disk)}, not {_short(image)}"
        )
    reads = "1 read" if disk["reads"] == 1 else f"{disk['reads']:,} reads"
    amount = f"{size(disk['bytes'])}, {reads}"
    return Finding("disk", amount, _bytes_rate(disk["bytes"], disk["seconds"]), ok, why)


def _packets(pings: Mapping[str, Any], switch: Mapping[str, Any]) -> Finding:
    lost = pings["sent"] - pings["answered"]
    if lost:
        why = f"{lost:,} of {pings['sent']:,} pings had no answer, a late one, or a wrong one"
    else:
        why = f"each answer; {switch['frames']:,} frames switched"
    amount = f"{pings['sent']:,} pings, {lost:,} lost"
    speed = f"{pings['sent'] / pings['seconds']:,.0f}/s, {span(round(pings['typical'] * 1e9))} each"
    return Finding("packets", amount, speed, not lost, why)


def _vchan(alice: Mapping[str, Any], bob: Mapping[str, Any]) -> Finding:
    heard = alice["received"] == bob["sent"] and bob["received"] == alice["sent"]
    why = "SHA-256, each way" if heard else "what one of them received is not what the other sent"
    seconds = max(alice["seconds"], bob["seconds"])
    amount = f"{size(alice['bytes'])} each way"
    return Finding("vchan", amount, _bytes_rate(2 * alice["bytes"], seconds), heard, why)


def _bytes_rate(number: int, seconds: float) -> str:
    return f"{size(number / seconds)}/s"


def _short(found: Mapping[str, Any]) -> str:
    return f"{found['sha256'][:SHOWN]}…"
