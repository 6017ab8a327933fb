"""Timers, blocking and the hypercalls' numbers.

Sources: xen/include/public/xen.h, sched.h, vcpu.h; xen/common/sched/core.c for the limits.
"""

from enum import IntEnum


class Hypercall(IntEnum):
    """__HYPERVISOR_*."""

    MEMORY_OP = 12
    SET_TIMER_OP = 15
    GRANT_TABLE_OP = 20
    VCPU_OP = 24
    SCHED_OP = 29
    EVENT_CHANNEL_OP = 32
    HVM_OP = 34


class SchedOp(IntEnum):
    """SCHEDOP_*."""

    YIELD = 0
    BLOCK = 1
    SHUTDOWN = 2
    POLL = 3


POLL_MAX_PORTS = 128
"""SCHEDOP_poll takes no more ports than this (EINVAL)."""

TIMEOUT_LIMIT_NS = 1 << 50
"""set_timer_op takes a timeout further ahead than this (13 days) for a guest's mistake..."""

TIMEOUT_MISTAKEN_NS = 100_000_000
"""...and fires after this long instead."""


class VcpuOp(IntEnum):
    """VCPUOP_*: the commands of hypercall 24."""

    INITIALISE = 0
    UP = 1
    DOWN = 2
    IS_UP = 3
    SET_PERIODIC_TIMER = 6
    STOP_PERIODIC_TIMER = 7
    SET_SINGLESHOT_TIMER = 8
    STOP_SINGLESHOT_TIMER = 9


PERIOD_MIN_NS = 1_000_000
"""VCPUOP_set_periodic_timer takes no shorter period (EINVAL)."""
