"""What a step does, in a sentence, for who does not know its name."""

from __future__ import annotations

_PLACES = {
    "evtchn_pending": "the pending bits, by which Xen says which ports have an event",
    "evtchn_mask": "the mask bits, by which the guest says which ports are to wait",
    "evtchn_pending_sel": "the selector, which says in which words there are pending bits",
    "evtchn_upcall_pending": "the vCPU's flag that there is an event for it",
    "evtchn_upcall_mask": "the vCPU's flag that it does not want to be interrupted",
}
_ACCESSES = {
    "read": "Reads {}",
    "write": "Writes {}",
    "bts": "In one go sets a bit of {}, and sees whether it was set",
    "btr": "In one go clears a bit of {}, and sees whether it was set",
    "btc": "In one go flips a bit of {}",
    "xchg": "In one go reads and replaces {}",
    "cmpxchg": "In one go replaces {}, if it is still what was read",
}
_WHOLE = {
    "cli": "Switches interrupts off",
    "sti": "Switches interrupts on, from behind the next instruction",
    "hlt": "Sleeps until an interrupt comes",
    "eoi": "Tells the local APIC that the interrupt was served",
    "start": "The domain's program begins",
    "end": "The domain's program is over",
    "timer": "Its one-shot timer fires",
    "timer mistaken": "A deadline so far away that Xen takes it for a mistake, and fires soon",
    "suspend": "The domain is saved and resumed: every port that was bound is gone",
    "block": "SCHEDOP_block: sleeps until an event comes; Xen looks once more before",
    "poll": "SCHEDOP_poll: sleeps until one of some ports is pending",
    "set_timer": "Sets its one-shot timer",
    "yield_": "Gives others a turn",
    "force_upcall": "Goes into Xen, which on the way back delivers what is due",
}
_BY_WORD = {
    "send": "Notifies the other end of this port",
    "alloc_unbound": "Allocates a port that another domain may bind",
    "bind_interdomain": "Binds another domain's port; its own end fires once, as Xen does",
    "bind_virq": "Binds a virtual interrupt to a port",
    "bind_ipi": "Binds a port by which its vCPUs interrupt each other",
    "bind_vcpu": "Says which vCPU a port is to interrupt",
    "unmask": "Unmasks a port; what came meanwhile is delivered now",
    "close": "Closes the port",
    "status": "Asks what a port is bound to",
    "init_control": "Gives Xen a control block: from now on events are kept in FIFOs",
    "expand_array": "Gives Xen a page more of event words",
    "demux": "Its lower half takes the event, and masks the port meanwhile",
    "wake": "Who waited for the event is made ready to run",
    "prints": "The program says this",
}
_ABOUT = "about to "


def words(what: str) -> str:
    """A sentence without its full stop; nothing where the step's name says it all."""
    if what.startswith(_ABOUT):
        rest = words(what.removeprefix(_ABOUT))
        return f"Another one runs first; its own next step: {_small(rest)}" if rest else ""
    if what in _WHOLE:
        return _WHOLE[what]
    kind, _, place = what.partition(" ")
    if kind in _ACCESSES:
        name, _, whose = place.partition(" of ")
        said = _PLACES.get(name, place or "memory")
        return _ACCESSES[kind].format(f"{said} ({whose}'s)" if whose and name in _PLACES else said)
    if kind == "hypercall":
        operation = place.removeprefix("EVTCHNOP_")
        return _WHOLE.get(operation) or _BY_WORD.get(operation, "")
    return _BY_WORD.get(kind, "")


def _small(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text
