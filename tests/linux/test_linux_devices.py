"""The devices where there is no Xen: what they say, and how they pack what they are asked."""

import errno
import os
import sys
from pathlib import Path

import pytest
from support.linux_fakes import FakeEventDevice

from activations import BackendError, Foreign, Scenario, Segment, XenError
from activations.outcome import RunOptions
from activations.scenario import Silent
from xen_linux import EventDevice, GrantDevice, backend, gntdev, identity
from xen_linux.device import Device, open_device
from xen_linux.grants import LinuxGrantTable
from xen_linux.lower import LinuxLowerHalf


@pytest.fixture
def fifo(tmp_path):
    """A file that, as the device, can be read, written and polled, and refuses every ioctl."""
    path = tmp_path / "evtchn"
    os.mkfifo(path)
    return str(path)


# Opening


@pytest.mark.skipif(Path("/dev/xen/evtchn").exists(), reason="this machine runs on Xen")
@pytest.mark.parametrize("device", ["evtchn", "gntdev", "gntalloc", "privcmd"])
def test_a_missing_device_says_what_to_load(device):
    with pytest.raises(BackendError, match="not a Xen domain") as raised:
        Device(f"/dev/xen/{device}")
    assert f"modprobe xen-{device}" in str(raised.value)


def test_a_device_without_a_module_says_that_this_is_no_xen(tmp_path):
    with pytest.raises(BackendError, match="not a Xen domain"):
        open_device(str(tmp_path / "xenbus"))


def test_a_device_without_permission_says_so(fifo, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BackendError, match="run as root"):
        EventDevice(fifo)


def test_closing_twice_is_harmless_and_closes_the_descriptor(fifo):
    device = EventDevice(fifo)
    descriptor = device.fileno()
    device.close()
    device.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


# Events


def test_ports_are_read_and_written_many_at_a_time(fifo):
    with EventDevice(fifo) as device:
        assert device.read() == ()
        device.enable(list(range(1, 1025)))
        assert list(device.read()) == list(range(1, 1025))
        device.enable((7,))
        assert list(device.read()) == [7]


@pytest.mark.parametrize(
    ("ask", "operation", "detail"),
    [
        (lambda d: d.bind_interdomain(3, 7), "EVTCHNOP_bind_interdomain", "domain 3, port 7"),
        (lambda d: d.bind_unbound_port(4), "EVTCHNOP_alloc_unbound", "domain 4"),
        (lambda d: d.bind_virq(2), "EVTCHNOP_bind_virq", "virq 2"),
        (lambda d: d.bind_static(9), "IOCTL_EVTCHN_BIND_STATIC", "port 9"),
        (lambda d: d.unbind(5), "EVTCHNOP_close", "port 5"),
        (lambda d: d.notify(6), "EVTCHNOP_send", "port 6"),
        (lambda d: d.restrict_domid(8), "IOCTL_EVTCHN_RESTRICT_DOMID", "domain 8"),
        (lambda d: d.reset(), "IOCTL_EVTCHN_RESET", ""),
    ],
)
def test_what_is_refused_names_the_operation_and_its_object(fifo, ask, operation, detail):
    with EventDevice(fifo) as device, pytest.raises(XenError) as raised:
        ask(device)
    error = raised.value
    assert error.errno in (errno.ENOTTY, errno.EINVAL)
    assert error.operation == operation
    assert str(error).startswith(operation)
    assert detail in str(error)
    assert isinstance(error, OSError)


def test_every_hint_belongs_to_an_operation_and_an_errno():
    for device in (EventDevice, GrantDevice):
        for (operation, code), hint in device.hints.items():
            assert operation.startswith(("EVTCHNOP_", "IOCTL_", "read"))
            assert code in errno.errorcode
            assert hint


# Grants


def test_a_segment_packs_its_foreign_end_and_the_address_of_its_local_one():
    buffer = bytearray(16)
    packed = gntdev._pack(Segment(Foreign(3, 0x01020304, 5), buffer, 16), [])
    assert len(packed) == 24
    assert packed[:8] == bytes([4, 3, 2, 1, 5, 0, 3, 0])
    assert packed[16:20] == bytes([16, 0, 1, 0])


def test_a_read_only_source_is_packed_as_a_copy_that_is_kept():
    kept = []
    gntdev._pack(Segment(b"abcd", Foreign(3, 9), 4), kept)
    assert kept == [b"abcd"]


def test_an_end_of_no_length_has_no_address():
    assert gntdev._pack(Segment(Foreign(3, 9), bytearray(), 0), [])[8:16] == bytes(8)


@pytest.mark.parametrize("guest_type", ["PVH", "HVM"])
def test_a_domain_with_hardware_page_tables_may_not_map_its_own_grants(guest_type):
    table = LinuxGrantTable(3, guest_type)
    for ask in (lambda: table.share(3, 1, True), lambda: table.map(3, [8], True)):
        with pytest.raises(XenError, match="use two domains") as raised:
            ask()
        assert raised.value.errno == errno.EOPNOTSUPP


# The backend

scenario = Scenario("pair")


@scenario.domain("dom0")
async def dom0(xen):
    return xen.domid


@scenario.domain("guest")
async def guest(xen):
    return xen.domid


def test_a_scenario_needs_to_know_which_half_runs_here():
    with pytest.raises(BackendError, match=r"--as.*dom0, guest"):
        backend.run(scenario, RunOptions(), Silent())


def test_options_of_simulations_are_refused():
    for options in (RunOptions(only="dom0", seed=1), RunOptions(only="dom0", vcpus=2)):
        with pytest.raises(BackendError, match="no use for"):
            backend.run(scenario, options, Silent())
    for options in ({"clock": "virtual"}, {"seed": 3}):
        with pytest.raises(BackendError, match="no use for"):
            backend.new_event_loop(**options)


@pytest.mark.skipif(identity.is_xen(), reason="this machine runs on Xen")
def test_without_xen_the_doctor_says_so_and_no_loop_is_made():
    (check,) = backend.doctor()
    assert not check.ok
    assert "not a Xen domain" in check.found
    assert "sim" in check.mend
    with pytest.raises(BackendError, match="not a Xen domain"):
        backend.new_event_loop()
    with pytest.raises(BackendError, match="not a Xen domain"):
        backend.run(scenario, RunOptions(only="dom0"), Silent())


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_half_that_raises_or_exits_is_a_failure_of_its_domain(error, monkeypatch):
    def lower_half(name):
        return LinuxLowerHalf(3, name, FakeEventDevice(), LinuxGrantTable(3, "PVH"))

    async def half(xen):
        raise error

    failing = Scenario("failing")
    failing.domain("guest")(half)
    monkeypatch.setattr(sys.modules["xen_linux.backend"], "new_lower_half", lower_half)
    outcome = backend.run(failing, RunOptions(only="guest"), Silent())
    assert outcome.results == {}
    assert error.__name__ in outcome.failures["guest"]
