"""What is public, name by name: a change of this list is a change that users notice."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.once

PUBLIC = {
    "activations": """
        ActivationsError BackendError BlockedForever Domain DomainFailed EventLoop Events
        Foreign GenerationEnded Grant Grants LeakWarning Outcome PROGRAM_START Port PortClosed
        PortError PortStatistics Scenario ScenarioError Segment SimulationOver Store
        VirtualClockError XenError current new_event_loop run
    """,
    "activations.backend": """
        Backend Check Kept Observer Outcome PROTOCOL_VERSION RunOptions load new_generation
        refuse
    """,
    "activations.drivers.block": """
        BadRequest BlkBack BlkFront BlockError Disk DiskError DiskGone FileDisk ImageError
        ImageInUse ImageReadOnly MemoryDisk NbdError NbdLost NbdSource ObjectDisk ServedDisk
        SnapshotDisk UnfitImage VolatileDisk WebSource devid_of open serve
    """,
    "activations.drivers.console": """
        BACK Console ConsoleBack ConsoleFront FRONT Line open serve serve_first serve_page
    """,
    "activations.drivers.net": """
        BadPacket CableEnd Interface NetBack NetError NetFront Nic NicClosed Statistics Switch
        SwitchPort Tap cable join open serve
    """,
    "activations.lower": """
        Adopt Clock Foreign GrantTable GrantedPages LowerHalf Ready Segment StoreConnection
        StoreUser VirtualLowerHalf Waitable monotonic_ns
    """,
    "activations.offers": """
        HasCache HasShell HasStore HasStoreServer LendsDisks ListsPorts PortState ShowsPorts
    """,
    "activations.promises": """
        PromiseBroken always eventually fault faulty sometimes unreachable
    """,
    "activations.ring": """
        ByteRing RingError
    """,
    "activations.sring": """
        BackRing FrontRing RingFull
    """,
    "activations.store": """
        Access Nodes Permission QuotaError Store StoreClosed StoreError StoreUnreachable
        Transaction Watch WireError
    """,
    "activations.vchan": """
        VchanError VchanListener VchanStream connect listen
    """,
    "activations.xenbus": """
        BackDriver BackEnd BadKey Device DeviceExists FrontDriver FrontEnd Handshake
        HandshakeTimeout Keys MissingKey Phase Unplugged Written XenbusError XenbusState
        device_of front_device front_devices plug unplug
    """,
    "xen_kernel": """
        KERNELS KernelError Limits Scenario decide replay
    """,
    "xen_lab": """
        Lab LabBackend Shape backend
    """,
    "xen_linux": """
        EventDevice GrantAllocator GrantDevice Hypercalls LinuxLowerHalf PortStatus backend
    """,
    "xen_sim": """
        Choice Diverged Kernel Life Machine PlainGuest Platform Recording Replay Schedule
        Seeded Solo5 Step Taken Tape Trace TripleFault TwoLevelKernel backend
    """,
    "xen_sim.views": """
        page perfetto
    """,
}
"""The faces: modules that are public, and all that they export."""

PACKAGES = ("activations", "xen_sim", "xen_linux", "xen_lab", "xen_kernel")


@pytest.mark.parametrize("face", PUBLIC)
def test_a_face_exports_what_is_listed_here(face: str) -> None:
    assert sorted(import_module(face).__all__) == sorted(PUBLIC[face].split())


@pytest.mark.parametrize("face", PUBLIC)
def test_completion_offers_what_is_exported_and_nothing_else(face: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", f"import {face} as it; print(*dir(it))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == sorted(PUBLIC[face].split())


@pytest.mark.parametrize("face", PUBLIC)
def test_every_public_name_has_a_docstring(face: str) -> None:
    module = import_module(face)
    assert module.__doc__, face
    assert not [name for name in PUBLIC[face].split() for name in undocumented(module, name)]


def test_a_name_without_a_docstring_is_found() -> None:
    module = ModuleType("activations.made_up")

    class Bare:
        def method(self) -> None: ...

    Bare.__module__ = Bare.method.__module__ = module.__name__
    module.Bare = Bare  # type: ignore[attr-defined]
    assert list(undocumented(module, "Bare")) == ["Bare", "Bare.method"]


def undocumented(module: ModuleType, name: str) -> Iterator[str]:
    """The name, and those of its methods, that have no docstring: of their own, of a base's, or of
    a protocol that the face exports."""
    thing = getattr(module, name)
    if inspect.ismodule(thing) or isinstance(thing, type) or inspect.isroutine(thing):
        if not inspect.getdoc(thing) or (isinstance(thing, type) and not documented(thing)):
            yield name
    elif not any(name in documented_values(source) for source in sources(module)):
        yield name
    for member in public_methods(thing) if isinstance(thing, type) else ():
        if not inspect.getdoc(getattr(thing, member)) and member not in promised(module):
            yield f"{name}.{member}"


def promised(module: ModuleType) -> set[str]:
    return {
        member
        for thing in vars(module).values()
        if isinstance(thing, type) and is_protocol(thing)
        for member in public_methods(thing)
        if inspect.getdoc(getattr(thing, member))
    }


def is_protocol(cls: type) -> bool:
    return getattr(cls, "_is_protocol", False)


def documented(cls: type) -> bool:
    """Whether the class says itself what it is."""
    return bool(cls.__dict__.get("__doc__"))


def public_methods(cls: type) -> list[str]:
    return [
        name
        for base in cls.__mro__
        if base.__module__.split(".")[0] in PACKAGES
        for name, value in vars(base).items()
        if not name.startswith("_")
        if inspect.isroutine(value) or isinstance(value, property)
    ]


def sources(module: ModuleType) -> list[str]:
    """The modules of its own that it imports names from, and itself."""
    imports = [
        node.module
        for node in ast.walk(tree(module.__name__))
        if isinstance(node, ast.ImportFrom) and node.module
    ]
    return [module.__name__, *(name for name in imports if name.split(".")[0] in PACKAGES)]


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(Path(str(import_module(module).__file__)).read_text())


@cache
def documented_values(module: str) -> set[str]:
    """The module's constants and aliases with a docstring below them, one for several too."""
    found: set[str] = set()
    group: list[str] = []
    for node in tree(module).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if names:
            group += names
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.update(group)
        group = []
    return found
