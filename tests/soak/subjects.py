"""What takes bytes of somebody else's, without a machine around it: parsers, and ends of rings.

Each is handed what a peer, a guest or a file may hold. It is to give its own typed error, or to go
on; and what it holds of its domain, pages above all, is to be there afterwards. Live drivers on a
machine are in `live`.
"""

from __future__ import annotations

from activations.drivers.block.protocol import BadRequest, BlockError
from activations.drivers.net.errors import NetError
from activations.ring import RingError
from activations.store import WireError
from activations.vchan import VchanError
from activations.xenbus import BadKey, MissingKey
from xen_kernel.assembly import UnknownInstruction
from xen_kernel.errors import KernelError
from xen_sim.explore.token import TokenError

from .disks import block_answers, block_names, block_request
from .files import failures, kernel_assembly, kernel_scenario, recording, token
from .hostile import Subject, of_each
from .networks import blank_checksum, rx_requests, rx_responses, tx_answers, tx_requests
from .rings import back_ring, byte_ring, front_ring, vchan_fields, vchan_orders
from .stores import keys, messages, permission, store_page, store_ring, store_server

SUBJECTS = (
    Subject("store-wire", "xs_wire's messages, cut anywhere", of_each(messages, WireError)),
    Subject("store-page", "a guest's end of xenstore's page", of_each(store_page)),
    Subject("store-server", "requests to xenstored", store_server),
    Subject("store-ring", "xenstored's end of a guest's page", store_ring),
    Subject("permission", "a permission's text", of_each(permission, ValueError)),
    Subject("keys", "a device's keys", of_each(keys, BadKey, MissingKey, BlockError)),
    Subject("byte-ring", "a ring of bytes", of_each(byte_ring)),
    Subject("front-ring", "a ring of requests, its front end", of_each(front_ring)),
    Subject("back-ring", "a ring of requests, its back end", of_each(back_ring, RingError)),
    Subject("block-request", "a disk's requests", of_each(block_request, BadRequest)),
    Subject("block-answers", "a disk's answers", lambda: block_answers),
    Subject("block-names", "a disk's name and number", of_each(block_names, ValueError)),
    Subject("net-tx-requests", "packets of a front end's", tx_requests),
    Subject("net-rx-responses", "packets of a back end's", lambda: rx_responses),
    Subject("net-tx-answers", "a back end's answers to packets", lambda: tx_answers),
    Subject("net-rx-requests", "a front end's empty pages", of_each(rx_requests)),
    Subject("checksum", "frames with their checksum blank", of_each(blank_checksum, NetError)),
    Subject("vchan-end", "a vchan's page", of_each(vchan_fields)),
    Subject("vchan-orders", "the sizes of a vchan's rings", of_each(vchan_orders, VchanError)),
    Subject("recording", "a recording's file", recording),
    Subject("failures", "the explorer's kept failures", failures),
    Subject("token", "an explorer's token", of_each(token, TokenError)),
    Subject("kernel-scenario", "a kernel's scenario", of_each(kernel_scenario, KernelError)),
    Subject(
        "kernel-assembly",
        "a kernel's inline assembly",
        of_each(kernel_assembly, UnknownInstruction),
    ),
)
