"""What starting brings along: nothing that is not used, since it is that which takes the time. By
modules, which count the same on every machine."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import click

from activations import registry
from activations.cli import MODULES, SUBCOMMANDS
from activations.cli import command as group

BEYOND_ASYNCIO = 20
"""Modules of Python's own that this package may add to what asyncio imports."""


def imported(program: str) -> set[str]:
    """The modules there are at the end of a program."""
    code = f"import sys\n{program}\nprint(*sys.modules, file=sys.__stderr__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def command(*arguments: str) -> set[str]:
    """The same of the command, with its output in a pipe."""
    return imported(f"from activations.cli import main\nmain({[*arguments]!r})")


def packages(modules: set[str]) -> set[str]:
    """Those that neither Python brings nor this one is."""
    names = {name.partition(".")[0] for name in modules}
    return names - sys.stdlib_module_names - {"activations", "__main__", "sitecustomize"}


def test_the_library_brings_no_other_package_and_little_of_pythons() -> None:
    stock, ours = imported("import asyncio"), imported("import activations")
    assert packages(ours) <= packages(stock)
    assert "importlib.metadata" not in ours - stock
    new = [name for name in ours - stock if not name.startswith("activations")]
    assert len(new) <= BEYOND_ASYNCIO, sorted(new)


def test_the_simulator_brings_its_two() -> None:
    new = packages(imported("import xen_sim")) - packages(imported("import activations"))
    assert new == {"xen_sim", "greenlet", "sortedcontainers"}


def test_a_log_that_nobody_shows_brings_nothing_until_something_is_logged() -> None:
    program = "import activations\nasync def main(xen):\n    {}\nactivations.run(main)"
    assert "structlog" not in imported(program.format("return"))
    assert "structlog" in imported(program.format("xen.log.info('a line')"))


def test_a_run_brings_no_driver_no_log_no_other_subcommand_and_no_other_backend() -> None:
    modules = command("run", "examples/pingpong.py")
    assert "xen_sim" in modules
    others = {f"activations.cli.{module}" for module in MODULES.values() if module != "run"}
    assert not modules & others
    unused = ("activations.drivers", "activations.xenbus", "xen_linux", "xen_lab")
    assert not [name for name in modules if name.startswith((*unused, "importlib.metadata"))]
    needed = {"click", "greenlet", "sortedcontainers", "xen_sim", "scenario_pingpong"}
    assert packages(modules) - packages(imported("import asyncio")) == needed


def test_a_backend_that_comes_along_is_the_one_its_entry_point_names() -> None:
    points = entry_points(group=registry.ENTRY_POINT_GROUP)
    for name, package in registry.OWN.items():
        assert points[name].value == f"{package}:backend"
        assert registry.find(name) is points[name].load()


def test_a_backend_that_lacks_a_package_says_which() -> None:
    code = "import sys; sys.modules['greenlet'] = None; registry.find('sim')"
    run = subprocess.run(
        [sys.executable, "-c", f"from activations import registry; {code}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.returncode == 1
    assert "greenlet" in run.stderr.splitlines()[-1]


def test_help_brings_no_subcommand_and_says_what_each_says_of_itself() -> None:
    assert not command("--help") & {f"activations.cli.{module}" for module in MODULES.values()}
    context = click.Context(group)
    for name, said in SUBCOMMANDS.items():
        subcommand = group.get_command(context, name)
        assert subcommand is not None
        assert subcommand.get_short_help_str(80) == said
    assert SUBCOMMANDS.keys() == MODULES.keys()
