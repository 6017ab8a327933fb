"""Linux's own event code, unmodified, explored: `PYTHONPATH=tests python -m linux_events`.

events_2l.c and events_fifo.c are taken out of Debian's linux-source-6.1, which is fetched once
(139 MB) and kept among what the tests keep. They are under the GPL, version 2, and stay on this
machine. What stands around them is ours: examples/kernels/linux. As a control each is explored with
bit operations that are not locked, and has to lose.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from support.debian import kept
from support.lower_halves import DELIVERIES
from support.places import EXAMPLES

from activations.errors import ActivationsError
from xen_kernel import Limits, Scenario, decide
from xen_lab import packages

PACKAGE = "linux-source-6.1"
FOLDER = "drivers/xen/events"
TAKEN = ("events_2l.c", "events_fifo.c", "events_internal.h")
OURS = EXAMPLES / "kernels" / "linux"
ABIS = ("2l", "fifo")
SCENARIOS: tuple[dict[str, Any], ...] = (
    {"ports": 1, "sends": 2},
    {"ports": 2, "sends": 1},
    {"ports": 2, "sends": 1, "vcpus": 2},
    {"ports": 1, "sends": 2, "buffers": True},
)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def sources() -> Path:
    """The folder with the files, fetched when it is first asked for. Raises `BackendError` where
    the package cannot be had."""
    return kept("linux-events", _fetch)


def _fetch(into: Path) -> None:
    with TemporaryDirectory(dir=into.parent) as work:
        place = Path(work)
        tell(f"fetching {PACKAGE} (139 MB)")
        package = packages.fetch([PACKAGE], place, place / "apt")[PACKAGE]
        tell("unpacking the package")
        files = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE, check=True
        ).stdout
        (place / "files.tar").write_bytes(files)
        with tarfile.open(place / "files.tar") as outer:
            inner = next(each for each in outer if each.name.endswith(".tar.xz"))
            outer.extract(inner, place, filter="data")
        tell("looking for the event code in it: half a minute")
        with tarfile.open(place / inner.name) as tree:
            missing = {f"{FOLDER}/{name}" for name in TAKEN}
            for member in tree:
                path = member.name.partition("/")[2]
                if path in missing and (content := tree.extractfile(member)):
                    (into / Path(path).name).write_bytes(content.read())
                    missing.discard(path)
                if not missing:
                    return
        raise ActivationsError(f"{PACKAGE} has no {', '.join(sorted(missing))}")


def scenario(linux: Path, **options: Any) -> Scenario:
    return Scenario(
        (linux / "events_2l.c", linux / "events_fifo.c", OURS / "base.c"),
        (OURS / "headers", linux),
        **options,
    )


def main() -> int:
    try:
        linux = sources()
        tell(f"Linux's files are in {linux}")
        found = False
        for abi in ABIS:
            faulty = scenario(linux, abi=abi, ports=2, defines=("NO_LOCK",))
            verdict = decide(faulty, Limits(seconds=60))
            print(f"control, not locked: {verdict}", flush=True)
            if not verdict.found:
                raise ActivationsError("the control has to lose a wake-up")
        for options, abi, way in product(SCENARIOS, ABIS, DELIVERIES):
            verdict = decide(scenario(linux, abi=abi, delivery=way, **options), Limits(seconds=60))
            print(verdict, flush=True)
            for each in verdict.found:
                print(f"{each.table(60)}\n{each.finding}")
                found = True
    except ActivationsError as error:
        tell(str(error))
        return 2
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
