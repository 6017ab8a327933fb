"""`activations replay RECORDING`: a half once more, as it was recorded on a real Xen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from activations.cli.output import Reporter
from activations.cli.run import load
from activations.cli.status import FAILED, WELL
from activations.outcome import Outcome
from activations.recording.form import RecordingError
from activations.recording.session import Interrupted, Recording
from activations.running import told


def chosen(words: Sequence[str]) -> bool:
    """Whether the last of these is a file, and so no token. (A token may be longer than a file's
    name can be, where `Path.is_file` raises.)"""
    with suppress(OSError):
        return Path(words[-1]).is_file()
    return False


def replay(words: Sequence[str], reporter: Reporter) -> int:
    """Replay it, of the scenario that it says, or of the one in another file; give the status.

    Raises `RecordingError` for what is not a recording, and for one that does not fit.
    """
    recording = Recording(Path(words[-1]))
    scenario = load(words[0] if len(words) == 2 else recording.target)
    half = scenario.half(recording.half)
    outcome = Outcome(facts={"domain": half.name})
    began = time.perf_counter()
    reporter.begins(scenario)
    try:
        outcome.results[half.name] = recording.replay(half.main)
    except Interrupted as over:
        reporter.progress(str(over))
    except RecordingError:
        raise
    except (Exception, SystemExit) as error:
        outcome.failures[half.name] = told(error)
    reporter.ended(scenario, "a replay", outcome, time.perf_counter() - began)
    return FAILED if outcome.failures else WELL
