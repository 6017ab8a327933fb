"""Xen's own test program for xenstore: its tests pass on the simulated xenstored, over its socket,
and on a real one, which shows that the program is what it should be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.pace import patience
from support.xens_test_program import RUNS, built, pass_in_dom0

from xen_lab import Lab
from xen_sim.xenstored import Xenstored, toolstack
from xen_sim.xenstored.serve import SocketServer

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(300),  # the first test waits for what is fetched
]


@pytest.fixture(scope="module")
def program(pytestconfig: pytest.Config) -> Path:
    return built(pytestconfig)


@pytest.mark.parametrize("arguments", RUNS, ids=" ".join)
def test_its_tests_pass_on_the_simulated_xenstored(
    program: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (said,) = passes(program, tmp_path, arguments)
    assert "-r" in arguments or len(said.splitlines()) == 12, said


def test_they_pass_while_others_run_them_too(program: Path, tmp_path: Path) -> None:
    passes(program, tmp_path, *[("-r", "2")] * 4)


def passes(program: Path, folder: Path, *runs: tuple[str, ...]) -> list[str]:
    """Run the program, all runs at once; give what each said. None may fail or leave a node."""

    async def run(arguments: tuple[str, ...]) -> str:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            env={"XENSTORED_PATH": str(folder / "socket")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0, said
        assert "retries" not in said, "a conflict with nobody"
        return said

    async def run_all() -> list[str]:
        xenstored = Xenstored()
        toolstack.introduce_dom0(xenstored)
        before = xenstored.database.paths()
        async with asyncio.timeout(patience(50)), SocketServer(xenstored, folder / "socket"):
            said = await asyncio.gather(*map(run, runs))
        assert xenstored.database.paths() == before
        return said

    return asyncio.run(run_all())


@pytest.mark.lab
def test_its_tests_pass_on_a_real_xenstored(program: Path, lab: Lab) -> None:
    pass_in_dom0(lab, program)
