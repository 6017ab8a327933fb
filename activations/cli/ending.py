"""How a subcommand ends: what went wrong is said once, and the exit status tells it too."""

from __future__ import annotations

from collections.abc import Callable

from activations.cli.output import Reporter
from activations.cli.status import FAILED, INTERRUPTED, NOT_TRIED, WELL
from activations.errors import ActivationsError


def status_of(
    work: Callable[[], int | None],
    reporter: Reporter,
    *,
    failures: tuple[type[ActivationsError], ...] = (),
) -> int:
    """Do it; give the exit status it gave, 0 for None.

    `FAILED` after one of `failures`, `NOT_TRIED` after any other `ActivationsError`, `INTERRUPTED`
    after Ctrl-C; the reporter is told of each, and closed.
    """
    try:
        return work() or WELL
    except failures as error:
        reporter.failed(error)
        return FAILED
    except ActivationsError as error:
        reporter.failed(error)
        return NOT_TRIED
    except KeyboardInterrupt:
        reporter.interrupted()
        return INTERRUPTED
    finally:
        reporter.close()
