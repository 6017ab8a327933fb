"""The numbers and layouts of Linux's devices, against the headers themselves."""

import shutil
import struct
import subprocess

import pytest
from support.needs import leave_out

from activations.abi import (
    event_channel,
    linux_evtchn,
    linux_gntalloc,
    linux_gntdev,
    linux_privcmd,
)

# What the installed headers do not say themselves: Xen's own types, and an ioctl newer than
# some distributions' headers (Linux 6.7, include/uapi/xen/evtchn.h).
PREAMBLE = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
typedef uint16_t domid_t;
typedef uint32_t grant_ref_t;
typedef unsigned long xen_pfn_t;
#include <linux/types.h>
#include <xen/evtchn.h>
#include <xen/gntdev.h>
#undef UNMAP_NOTIFY_CLEAR_BYTE
#undef UNMAP_NOTIFY_SEND_EVENT
#include <xen/gntalloc.h>
#include <xen/privcmd.h>
#ifndef IOCTL_EVTCHN_BIND_STATIC
struct ioctl_evtchn_bind { unsigned int port; };
#define IOCTL_EVTCHN_BIND_STATIC _IOC(_IOC_NONE, 'E', 7, sizeof(struct ioctl_evtchn_bind))
#endif
"""

NUMBERS = {
    name: getattr(module, name)
    for module in (linux_evtchn, linux_gntdev, linux_gntalloc, linux_privcmd)
    for name in vars(module)
    if name.startswith(("IOCTL_", "UNMAP_NOTIFY_", "GNTALLOC_FLAG_")) and name.isupper()
    if isinstance(getattr(module, name), int)
}

SIZES = {
    "sizeof(struct ioctl_evtchn_bind_virq)": linux_evtchn.BIND_VIRQ.size,
    "sizeof(struct ioctl_evtchn_bind_interdomain)": linux_evtchn.BIND_INTERDOMAIN.size,
    "sizeof(struct ioctl_evtchn_bind_unbound_port)": linux_evtchn.BIND_UNBOUND_PORT.size,
    "sizeof(struct ioctl_evtchn_notify)": linux_evtchn.PORT.size,
    "sizeof(struct ioctl_evtchn_unbind)": linux_evtchn.PORT.size,
    "sizeof(struct ioctl_evtchn_restrict_domid)": linux_evtchn.RESTRICT_DOMID.size,
    "offsetof(struct ioctl_gntdev_map_grant_ref, refs)": linux_gntdev.MAP_GRANT_REF.size,
    "sizeof(struct ioctl_gntdev_grant_ref)": linux_gntdev.GRANT_REF.size,
    "sizeof(struct ioctl_gntdev_unmap_grant_ref)": linux_gntdev.UNMAP_GRANT_REF.size,
    "sizeof(struct ioctl_gntdev_get_offset_for_vaddr)": linux_gntdev.GET_OFFSET_FOR_VADDR.size,
    "sizeof(struct ioctl_gntdev_set_max_grants)": linux_gntdev.SET_MAX_GRANTS.size,
    "sizeof(struct ioctl_gntdev_unmap_notify)": linux_gntdev.UNMAP_NOTIFY.size,
    "sizeof(struct ioctl_gntdev_grant_copy)": linux_gntdev.GRANT_COPY.size,
    "sizeof(struct gntdev_grant_copy_segment)": (
        2 * linux_gntdev.SEGMENT_FOREIGN.size + linux_gntdev.SEGMENT_LENGTHS.size
    ),
    "offsetof(struct gntdev_grant_copy_segment, dest)": linux_gntdev.SEGMENT_LOCAL.size,
    "offsetof(struct gntdev_grant_copy_segment, len)": 2 * linux_gntdev.SEGMENT_LOCAL.size,
    "offsetof(struct gntdev_grant_copy_segment, source.foreign.offset)": 4,
    "offsetof(struct gntdev_grant_copy_segment, source.foreign.domid)": 6,
    "offsetof(struct gntdev_grant_copy_segment, flags)": 18,
    "offsetof(struct gntdev_grant_copy_segment, status)": 20,
    "offsetof(struct ioctl_gntalloc_alloc_gref, gref_ids)": linux_gntalloc.ALLOC_GREF.size,
    "offsetof(struct ioctl_gntalloc_alloc_gref, index)": 8,
    "sizeof(struct ioctl_gntalloc_dealloc_gref)": linux_gntalloc.DEALLOC_GREF.size,
    "sizeof(struct ioctl_gntalloc_unmap_notify)": linux_gntalloc.UNMAP_NOTIFY.size,
    "sizeof(struct privcmd_hypercall)": linux_privcmd.HYPERCALL.size,
}


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    """Ask the C compiler what each expression comes to."""
    compiler = shutil.which("cc")
    if not compiler:
        leave_out("the kernel's headers", "apt-get install gcc libc6-dev")
    expressions = [*NUMBERS, *SIZES]
    lines = "".join(f'printf("%lu\\n", (unsigned long)({e}));\n' for e in expressions)
    folder = tmp_path_factory.mktemp("headers")
    source, program = folder / "ask.c", folder / "ask"
    # privcmd.h includes a header of the kernel's own that is not installed; it needs nothing of it.
    (folder / "xen/interface").mkdir(parents=True)
    (folder / "xen/interface/xen.h").touch()
    source.write_text(f"{PREAMBLE}\nint main(void) {{\n{lines}return 0;\n}}\n")
    subprocess.run([compiler, "-I", folder, "-o", program, source], check=True)
    said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return dict(zip(expressions, map(int, said.split()), strict=True))


@pytest.mark.parametrize("name", NUMBERS)
def test_the_number_is_the_headers(header, name):
    assert hex(NUMBERS[name]) == hex(header[name])


@pytest.mark.parametrize("expression", SIZES)
def test_the_layout_is_the_headers(header, expression):
    assert SIZES[expression] == header[expression]


def test_every_ioctl_has_a_number_of_its_own():
    per_device = (linux_evtchn, linux_gntdev, linux_gntalloc)
    for module in per_device:
        numbers = [v for k, v in vars(module).items() if k.startswith("IOCTL_")]
        assert len(numbers) == len(set(numbers))


def test_a_port_is_packed_as_the_device_reads_it():
    assert linux_evtchn.PORT.pack(7) == struct.pack("=I", 7)


def test_the_hypercalls_argument_fits_the_page():
    assert event_channel.STATUS.size == 24
