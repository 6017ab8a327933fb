/*
 * A lower half in the style of Solo5's for PVHv2. Events are taken outside of the handler, which
 * only acknowledges. The demux masks each port, then clears its pending bit; the consumer unmasks.
 * Only Xen sets evtchn_upcall_pending, only the demux clears it, and it is read with upcalls off
 * right before sleeping. On a level the handler has to clear it: then the look goes by the selector.
 *
 * Faults: those of June 2020.
 *     1  unmask looks at evtchn_mask where it has to look at evtchn_pending
 *     2  the handler clears evtchn_upcall_pending, and hides the event from block
 *     3  the demux leaves a port unmasked while it waits to be consumed
 *     4  hlt with interrupts on: an upcall before it leaves the vCPU asleep with an event
 *     5  the demux clears the flag after the scan
 */
#include "lower_half.h"

const int lower_half_takes_in_handler = 0;

static int announced(unsigned vcpu)
{
	if (delivery == BY_UPCALL_VECTOR)
		return own_info(vcpu)->evtchn_upcall_pending;
	return own_info(vcpu)->evtchn_pending_sel != 0;
}

void lower_half_start(unsigned vcpu)
{
	for (unsigned word = 0; word < 64 && !vcpu; word++)
		shared_info.evtchn_mask[word] = ~0ul;
}

void lower_half_upcall(unsigned vcpu)
{
	if (FAULT == 2)
		own_info(vcpu)->evtchn_upcall_pending = 0;
	acknowledge(vcpu);
}

void lower_half_demux(unsigned vcpu)
{
	uint64_t selected, ready;

	if (!announced(vcpu))
		return;
	if (FAULT != 5)
		own_info(vcpu)->evtchn_upcall_pending = 0;
	selected = __atomic_exchange_n(&own_info(vcpu)->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
	for (; selected; selected &= selected - 1) {
		unsigned word = (unsigned)__builtin_ctzl(selected);

		while ((ready = shared_info.evtchn_pending[word] & ~shared_info.evtchn_mask[word])) {
			unsigned port = word * 64 + (unsigned)__builtin_ctzl(ready);

			event(vcpu, port);
			if (FAULT != 3)
				set_bit(shared_info.evtchn_mask, port);
			clear_bit(shared_info.evtchn_pending, port);
		}
	}
	if (FAULT == 5)
		own_info(vcpu)->evtchn_upcall_pending = 0;
}

void lower_half_bound(unsigned port, unsigned vcpu) { (void)port, (void)vcpu; }

void lower_half_mask(unsigned port)
{
	set_bit(shared_info.evtchn_mask, port);
}

void lower_half_unmask(unsigned port)
{
	clear_bit(shared_info.evtchn_mask, port);
	if (has_bit(FAULT == 1 ? shared_info.evtchn_mask : shared_info.evtchn_pending, port)) {
		set_bit(shared_info.evtchn_mask, port);	/* Xen's unmask acts on a masked port alone */
		unmask_by_xen(port);
	}
}

void lower_half_block(unsigned vcpu, int timed)
{
	if (FAULT == 4) {
		if (announced(vcpu))
			return;
		if (timed)
			hypercall(SET_TIMER_OP, 1, 0, 0);
		__asm__ volatile("hlt" ::: "memory");
		return;
	}
	upcalls_off(vcpu);
	if (announced(vcpu)) {
		upcalls_on(vcpu);
		return;
	}
	if (timed)
		hypercall(SET_TIMER_OP, 1, 0, 0);
	upcalls_sleep(vcpu);
}
