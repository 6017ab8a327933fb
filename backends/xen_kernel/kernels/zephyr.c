/*
 * A lower half in the style of Zephyr's: the handler clears the flag, takes the selector, and for
 * each port clears its pending bit and then calls it. No port is masked while it is served: what
 * comes meanwhile sets the bit, and with it the selector and the flag, and the handler is entered
 * again.
 *
 * Faults:
 *     1  the pending bit is cleared by a read and a write of its word, without a lock
 *     2  the words are read before the selector is taken
 *     3  idle looks for work with upcalls on
 */
#include "lower_half.h"

const int lower_half_takes_in_handler = 1;

void lower_half_start(unsigned vcpu)
{
	for (unsigned word = 0; word < 64 && !vcpu; word++)
		shared_info.evtchn_mask[word] = ~0ul;
}

static void serve(unsigned vcpu, unsigned port)
{
	if (FAULT == 1)
		shared_info.evtchn_pending[port >> 6] &= ~(1ul << (port & 63));
	else
		clear_bit(shared_info.evtchn_pending, port);
	event(vcpu, port);
}

void lower_half_upcall(unsigned vcpu)
{
	uint64_t selected, early = FAULT == 2 ? shared_info.evtchn_pending[0] : 0;

	if (delivery == BY_UPCALL_VECTOR)
		eoi();
	own_info(vcpu)->evtchn_upcall_pending = 0;
	selected = __atomic_exchange_n(&own_info(vcpu)->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
	for (; selected; selected &= selected - 1) {
		unsigned word = (unsigned)__builtin_ctzl(selected);
		uint64_t ready = FAULT == 2 ? early : shared_info.evtchn_pending[word];

		for (ready &= ~shared_info.evtchn_mask[word]; ready; ready &= ready - 1)
			serve(vcpu, word * 64 + (unsigned)__builtin_ctzl(ready));
	}
}

void lower_half_demux(unsigned vcpu) { (void)vcpu; }

void lower_half_bound(unsigned port, unsigned vcpu) { (void)port, (void)vcpu; }

void lower_half_mask(unsigned port)
{
	set_bit(shared_info.evtchn_mask, port);
}

/* At bind; while it runs nothing is masked, and Xen does nothing for a port that is not. */
void lower_half_unmask(unsigned port)
{
	if (has_bit(shared_info.evtchn_mask, port))
		unmask_by_xen(port);
}

void lower_half_block(unsigned vcpu, int timed)
{
	if (FAULT == 3 && work(vcpu))
		return;
	upcalls_off(vcpu);
	if (FAULT != 3 && work(vcpu)) {
		upcalls_on(vcpu);
		return;
	}
	if (timed)
		hypercall(SET_TIMER_OP, 1, 0, 0);
	upcalls_sleep(vcpu);
}
