"""What docs/explorer.md shows works: its driver fails as shown, and its cure cures it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.child_pytest import run_pytest
from support.pages import README, blocks
from support.places import DOCS

from activations import BackendError, scenario
from activations.cli import main
from xen_sim.explore.programs import of_scenario
from xen_sim.explore.search import Effort, explore
from xen_sim.explore.token import Token, identify, parse
from xen_sim.explore.verdict import OPEN
from xen_sim.explorer import Explorer, Subject
from xen_sim.schedule.tape import Diverged

PAGE = DOCS / "explorer.md"
DRIVER, CURE, TEST, *OTHERS = blocks(PAGE, "python")
DASK, RAY = (next(code for code in OTHERS if each in code) for each in ("from dask", "import ray"))
OTHERS = [code for code in OTHERS if code not in (DASK, RAY)]
SHOWN = next(block for block in blocks(PAGE, "") if "✗ deadlock" in block)
FEW = Effort(runs=150, seconds=None, strategy="walk")


def cured() -> str:
    """The driver with the page's cure in place of its lines."""
    first, last = CURE.splitlines()[0], CURE.splitlines()[-1]
    before, _, rest = DRIVER.partition(first)
    return before + CURE.rstrip("\n") + rest.partition(last)[2]


def test_the_driver_runs_well_fails_when_explored_and_is_cured(tmp_path: Path) -> None:
    file = tmp_path / "driver.py"
    file.write_text(DRIVER)
    driver = scenario.load(str(file))
    driver.run()
    engine = of_scenario(driver)
    (found,) = explore(engine, FEW).found
    shown = [line.strip() for line in SHOWN.splitlines()]
    assert [line.strip() for line in str(found.finding).splitlines()] == shown[-3:]
    assert {line for line in shown if "↷" in line} <= {
        line.strip() for line in found.table().splitlines()
    }
    file.write_text(cured())
    mended = of_scenario(scenario.load(str(file)))
    assert explore(mended, Effort(runs=150, seconds=None, strategy="walk"))
    with pytest.raises(Diverged, match="the token no longer fits: at choice"):
        mended.tell(parse(found.token).tape())


def test_the_commands_find_replay_and_say_so_in_their_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["explore", "--guest", "solo5-2020"]) == 1
    out = capsys.readouterr().out
    assert "✗ lost wake-up" in out
    shown = next(block for block in blocks(README, "") if "✗ lost wake-up" in block)
    assert out.startswith(shown.partition("\n")[2].rstrip("\n"))
    token = out.rpartition("token: ")[2].strip()
    assert (tmp_path / ".activations" / f"{token}.json").exists()
    assert main(["replay", token, "--guest", "solo5-2020"]) == 1
    assert "✗ lost wake-up" in capsys.readouterr().out
    assert main(["replay", token, "--guest", "solo5"]) == 2
    assert "was found in another program" in capsys.readouterr().err
    assert main(["replay", token[:-2], "--guest", "solo5-2020"]) == 2
    assert "cut short" in capsys.readouterr().err
    assert main(["explore", "--runs", "5", "--json"]) == 0
    (verdict,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (verdict["verdict"], verdict["statistics"]["runs"]) == ("not exhausted", 5)
    assert main(["explore", "--strategy", "hope"]) == 2
    assert "there is no strategy 'hope'; there are: portfolio" in capsys.readouterr().err


def test_what_was_found_is_written_as_a_page_and_for_perfetto(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    faulty = ["--guest", "solo5-2020", "--html", "it.html", "--perfetto", "it.pftrace"]
    assert main(["explore", *faulty]) == 1
    token = capsys.readouterr().out.rpartition("token: ")[2].strip()
    page = (tmp_path / "it.html").read_text()
    assert token in page
    assert "guest port 1" in page
    assert (tmp_path / "it.pftrace").read_bytes()
    (tmp_path / "it.html").unlink()
    assert main(["replay", token, *faulty]) == 1
    assert (tmp_path / "it.html").read_text() == page
    assert main(["explore", "--guest", "solo5-2020", "--html", "/dev/full"]) == 2
    assert "the page is lost: /dev/full: No space left" in capsys.readouterr().err


def test_a_replay_that_breaks_nothing_claims_no_more() -> None:
    explorer, subject = Explorer(), {"guest": "solo5"}
    program = Subject(**subject).engine().program
    verdict = explorer.replay(subject, str(Token(identify(program.identity), 0, (), ())))
    assert verdict.kind == OPEN
    assert not verdict.found


def test_the_test_of_the_page_passes(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    assert "1 passed" in run_pytest(tmp_path)


@pytest.mark.parametrize("code", OTHERS)
def test_other_code_of_the_page_runs(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(code, {"__name__": "page"})
    assert "found lost wake-up" in capsys.readouterr().out or "explore(" not in code


class Client(ThreadPoolExecutor):
    """A stand-in for Dask's, which is not installed."""

    def __init__(self, n_workers: int, threads_per_worker: int) -> None:
        super().__init__(n_workers)

    def get_executor(self) -> Executor:
        return self


class Remote:
    """A stand-in for a function of Ray's."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def remote(self, *arguments: object) -> Remote:
        self.came = self.function(*arguments)
        return self

    def future(self) -> Future[object]:
        future: Future[object] = Future()
        future.set_result(self.came)
        return future


def test_the_search_on_other_machines_runs_with_threads_in_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("driver.py").write_text(DRIVER)
    stand_ins = {
        "dask": SimpleNamespace(),
        "dask.distributed": SimpleNamespace(Client=Client),
        "ray": SimpleNamespace(init=lambda: None, remote=Remote),
    }
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    exec(DASK, {"__name__": "__main__"})
    assert "driver: found deadlock: nothing can ever happen" in capsys.readouterr().out
    names: dict[str, object] = {"__name__": "__main__"}
    exec(
        f"{DASK.partition('if __name__')[0]}\nengine = of_scenario(load('driver.py'))\n{RAY}", names
    )
    assert "driver: found deadlock" in str(names["verdict"])


def test_a_scenario_for_the_wall_clock_is_refused(tmp_path: Path) -> None:
    wall = scenario.Scenario("wall", clock="wall")
    with pytest.raises(BackendError, match="it cannot be explored"):
        Subject(wall).engine()
