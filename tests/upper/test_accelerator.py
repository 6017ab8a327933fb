"""The accelerator: that it is the one in the source, is chosen and left out as said, and keeps and
drops what Python would. That it does the same, byte by byte and event by event, is held elsewhere:
test_fused.py, test_order.py, test_struck.py."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import weakref
from binascii import crc32
from collections import deque
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.places import HOME
from support.pure import in_python_alone, needed_accelerator

import activations
from activations import Domain, EventLoop
from activations.virtual_loop import VirtualEventLoop
from xen_sim import Machine, build

SOURCE = HOME / "activations" / "_accelerator.c"


@pytest.fixture(autouse=True)
def accelerator() -> Any:
    return needed_accelerator()


# Which is in use


def test_what_is_tested_is_made_from_what_is_in_the_source(accelerator: Any) -> None:
    built_from: str = accelerator.SOURCE
    assert built_from == f"{crc32(SOURCE.read_bytes()):08x}"


BUILT_FROM = """
import sys, types, warnings
built = types.ModuleType("activations._accelerator")
built.SOURCE = sys.argv[1]
sys.modules[built.__name__] = built
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    import activations.accelerator
    from xen_sim import backend
print([str(each.message) for each in told], backend.doctor()[1].found, sep="\\n")
"""


@pytest.mark.parametrize("source", ["1c3d5e7f", "an older kind of digest"])
def test_one_built_from_another_source_is_left_out_and_says_so(source: str) -> None:
    """As it is where a branch has changed the file, and nobody has installed again: what is in
    Python would ask for what is not in it."""
    out_of_date = "out of date, since it was built from another _accelerator.c"
    told, found = python(BUILT_FROM, source).splitlines()
    assert told == f"['the accelerator is {out_of_date}, and is left out: pip install again']"
    assert found == f"without it: {out_of_date}: pip install again"


OTHER_ASYNCIO = """
import asyncio
asyncio.Handle = type("Handle", (asyncio.Handle,), {"_callback": None})
from activations import accelerator
print(accelerator.accelerator, accelerator.missing)
"""


def test_a_python_with_other_handles_does_without() -> None:
    said = python(OTHER_ASYNCIO)
    assert said.startswith("None not for this Python's asyncio: ")
    assert "_callback" in said


FREE_THREADED = """
import sys, sysconfig
sysconfig.get_config_vars()["Py_GIL_DISABLED"] = 1
sys.modules["activations._accelerator"] = None
from activations import accelerator
print(accelerator.accelerator, accelerator.missing)
"""


def test_a_free_threaded_python_does_without_and_is_not_told_to_install_a_compiler() -> None:
    why = "it is written for one thread at a time, and this Python is free-threaded"
    assert python(FREE_THREADED) == f"None {why}\n"


def python(program: str, *arguments: str) -> str:
    """What this program prints, in a Python of its own that may have the accelerator."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"ACTIVATIONS_PURE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_it_stays_within_what_one_reads_at_a_sitting() -> None:
    assert len(SOURCE.read_text().splitlines()) <= 500


def doctor(**environment: str) -> str:
    """What `activations doctor` says of it."""
    done = subprocess.run(
        [sys.executable, "-m", "activations", "doctor", "sim", "--json"],
        env=os.environ | environment,
        capture_output=True,
        check=True,
    )
    checks = json.loads(done.stdout)["backends"][0]["checks"]
    return str(next(each["found"] for each in checks if "accelerator" in each["what"]))


def test_doctor_says_which_is_in_use_and_the_environment_chooses() -> None:
    assert doctor() == doctor(ACTIVATIONS_PURE="0") == "in use"
    assert doctor(ACTIVATIONS_PURE="1") == "without it: ACTIVATIONS_PURE is set"


def build_hook(monkeypatch: pytest.MonkeyPatch, root: Path) -> Any:
    """The hook that hatchling calls, without hatchling, for a tree of its own."""
    interface = ModuleType("interface")
    interface.BuildHookInterface = type("BuildHookInterface", (), {})  # type: ignore
    monkeypatch.setitem(sys.modules, "hatchling.builders.hooks.plugin.interface", interface)
    spec = importlib.util.spec_from_file_location("hatch_build", HOME / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (root / "activations").mkdir()
    (root / "activations" / SOURCE.name).write_bytes(SOURCE.read_bytes())
    hook = module.CustomBuildHook()
    hook.root = str(root)
    return hook


def test_without_a_compiler_it_is_left_out_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ACTIVATIONS_ACCELERATOR", raising=False)
    for compiler in ("no-such-compiler", "false"):
        monkeypatch.setenv("CC", compiler)
        root = tmp_path / compiler
        root.mkdir()
        data: dict[str, Any] = {"artifacts": []}
        build_hook(monkeypatch, root).initialize("standard", data)
        assert data == {"artifacts": []}
        assert [file.name for file in (root / "activations").iterdir()] == [SOURCE.name]
    assert capfd.readouterr() == ("", "")


def test_for_a_free_threaded_python_none_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sysconfig.get_config_vars(), "Py_GIL_DISABLED", 1)
    monkeypatch.delenv("ACTIVATIONS_ACCELERATOR", raising=False)
    data: dict[str, Any] = {"artifacts": []}
    build_hook(monkeypatch, tmp_path).initialize("standard", data)
    assert data == {"artifacts": []}
    monkeypatch.setenv("ACTIVATIONS_ACCELERATOR", "required")
    (tmp_path / "wheel").mkdir()
    with pytest.raises(SystemExit, match="free-threaded"):
        build_hook(monkeypatch, tmp_path / "wheel").initialize("standard", data)


def test_a_wheel_that_is_to_have_it_fails_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIVATIONS_ACCELERATOR", "required")
    monkeypatch.setenv("CC", "no-such-compiler")
    hook = build_hook(monkeypatch, tmp_path)
    with pytest.raises(SystemExit, match="could not be built"):
        hook.initialize("standard", {"artifacts": []})


# The loop


def test_debug_mode_and_a_closed_loop_are_pythons() -> None:
    loop = activations.new_event_loop("sim")
    loop.set_debug(False)
    in_c = loop.call_soon
    assert "call_soon" in vars(loop)
    loop.set_debug(True)
    assert "call_soon" not in vars(loop)
    loop.set_debug(False)
    assert "call_soon" in vars(loop)
    loop.close()
    for call_soon in (loop.call_soon, in_c):
        with pytest.raises(RuntimeError, match="closed"):
            call_soon(print)


def test_a_loop_of_another_class_keeps_its_own_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    class Noting(VirtualEventLoop):
        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
            called.append(callback)
            return super().call_soon(callback, *args, context=context)

    monkeypatch.setattr(build, "VirtualEventLoop", Noting)
    loop = activations.new_event_loop("sim")
    assert loop._turn is None
    loop.run_until_complete(asyncio.sleep(0))
    assert called
    loop.close()


def test_a_handle_is_as_asyncio_makes_it() -> None:
    loop = activations.new_event_loop("sim")
    loop.set_debug(False)
    ours = loop.call_soon(print, 1, 2)
    with in_python_alone():
        other = activations.new_event_loop("sim")
    other.set_debug(False)
    theirs = other.call_soon(print, 1, 2)
    assert type(ours) is type(theirs) is asyncio.Handle
    for name in ("_callback", "_args", "_cancelled", "_repr", "_source_traceback"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours._loop is loop  # type: ignore[attr-defined]
    assert repr(ours) == repr(theirs)
    for each in (ours, theirs):
        each.cancel()
    for each_loop in (loop, other):
        each_loop.run_until_complete(asyncio.sleep(0))
        each_loop.close()


@pytest.mark.parametrize("pure", [False, True])
def test_what_a_callback_raises_is_told_as_asyncio_does(pure: bool) -> None:
    told: list[dict[str, Any]] = []

    def fail() -> None:
        raise ValueError("on purpose")

    async def main(xen: Domain) -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(False)
        loop.set_exception_handler(lambda loop, context: told.append(context))
        loop.call_soon(fail)
        await asyncio.sleep(0)

    if pure:
        with in_python_alone():
            activations.run(main)
    else:
        activations.run(main)
    (context,) = told
    assert context["message"].startswith("Exception in callback ")
    assert "fail" in context["message"]
    assert isinstance(context["exception"], ValueError)
    assert sorted(context) == ["exception", "handle", "message"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_run_is_raised_out_of_it(error: type[BaseException]) -> None:
    loop = activations.new_event_loop("sim")

    def end() -> None:
        raise error

    loop.call_soon(end)
    ran = []
    loop.call_soon(ran.append, 1)
    with pytest.raises(error):
        loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0))
    assert ran == [1]
    loop.close()


# What is held, and let go


async def server(xen: Domain) -> None:
    with xen.events.alloc_unbound(1) as port:
        for _ in range(50):
            await port.wait()
            port.notify()


async def client(xen: Domain) -> None:
    await asyncio.sleep(1)
    with xen.events.bind_interdomain(0, 2) as port:
        for _ in range(50):
            port.notify()
            await port.wait()


def play() -> list[weakref.ref[EventLoop]]:
    machine = Machine()
    lives = [machine.boot("dom0", server), machine.boot("guest", client)]
    loops = [weakref.ref(life.loop) for life in lives]
    machine.run()
    return loops


def test_a_machine_that_has_run_is_garbage_and_nothing_is_left_of_it() -> None:
    blocks = []
    for _ in range(12):
        loops = play()
        gc.collect()
        assert [loop() for loop in loops] == [None, None]
        blocks.append(sys.getallocatedblocks())
    assert max(blocks[-6:]) - min(blocks[-6:]) < 50, "a run has some 100 events"


def test_what_is_made_wrongly_is_refused_and_leaves_nothing(accelerator: Any) -> None:
    for made in (accelerator.Turn, accelerator.Announce, accelerator.Send, accelerator.Fused):
        for arguments in ((), (1,) * 3, (1,) * 6, (1,) * 7, (1,) * 12):
            with pytest.raises((TypeError, AttributeError)):
                made(*arguments)
    with pytest.raises(TypeError, match="no slot heap"):
        accelerator.Turn(1, 2, {}, deque(), int, *(print,) * 7)
