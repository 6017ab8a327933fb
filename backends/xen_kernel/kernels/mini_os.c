/*
 * A lower half in the style of Mini-OS: events are taken in the handler, which clears
 * evtchn_upcall_pending, takes the selector and scans it. Unmasking makes no hypercall: where an
 * event came meanwhile, the guest sets the selector's bit and the flag itself, and has its handler
 * entered. (Not on the upcall vector, where setting the flag raises nothing: there Xen is asked.)
 *
 * Faults:
 *     1  the scan swaps the whole pending word for 0, and drops the events of masked ports
 *     2  evtchn_upcall_pending is cleared after the scan
 *     3  unmask does not look whether an event came meanwhile
 *     4  block looks for work with upcalls on
 *     5  the handler makes no EOI (upcall vector)
 *     6  the selector is exchanged with no order: on arm64 the flag may be cleared after it
 */
#include "lower_half.h"

const int lower_half_takes_in_handler = 1;

void lower_half_start(unsigned vcpu)
{
	for (unsigned word = 0; word < 64 && !vcpu; word++)
		shared_info.evtchn_mask[word] = ~0ul;
}

static void take(unsigned vcpu, unsigned port)
{
	event(vcpu, port);
	set_bit(shared_info.evtchn_mask, port);
	clear_bit(shared_info.evtchn_pending, port);
}

static void scan(unsigned vcpu, unsigned word)
{
	uint64_t ready;

	if (FAULT == 1) {
		uint64_t masked = shared_info.evtchn_mask[word];

		ready = __atomic_exchange_n(&shared_info.evtchn_pending[word], 0, __ATOMIC_SEQ_CST);
		for (ready &= ~masked; ready; ready &= ready - 1)
			take(vcpu, word * 64 + (unsigned)__builtin_ctzl(ready));
		return;
	}
	while ((ready = shared_info.evtchn_pending[word] & ~shared_info.evtchn_mask[word]))
		take(vcpu, word * 64 + (unsigned)__builtin_ctzl(ready));
}

void lower_half_upcall(unsigned vcpu)
{
	uint64_t selected;

	if (delivery == BY_UPCALL_VECTOR && FAULT != 5)
		eoi();
	if (FAULT != 2)
		own_info(vcpu)->evtchn_upcall_pending = 0;
	selected = __atomic_exchange_n(&own_info(vcpu)->evtchn_pending_sel, 0,
				       FAULT == 6 ? __ATOMIC_RELAXED : __ATOMIC_SEQ_CST);
	for (; selected; selected &= selected - 1)
		scan(vcpu, (unsigned)__builtin_ctzl(selected));
	if (FAULT == 2)
		own_info(vcpu)->evtchn_upcall_pending = 0;
}

void lower_half_demux(unsigned vcpu) { (void)vcpu; }

void lower_half_bound(unsigned port, unsigned vcpu) { (void)port, (void)vcpu; }

void lower_half_mask(unsigned port)
{
	set_bit(shared_info.evtchn_mask, port);
}

void lower_half_unmask(unsigned port)
{
	struct vcpu_info *info = own_info(0);

	clear_bit(shared_info.evtchn_mask, port);
	if (FAULT == 3 || !has_bit(shared_info.evtchn_pending, port))
		return;
	if (delivery == BY_UPCALL_VECTOR) {
		set_bit(shared_info.evtchn_mask, port);
		unmask_by_xen(port);
		return;
	}
	if (set_bit(&info->evtchn_pending_sel, port >> 6))
		return;
	info->evtchn_upcall_pending = 1;
	barrier();
	if (delivery == BY_PV_UPCALL && !info->evtchn_upcall_mask)
		hypercall(XEN_VERSION, 0, 0, 0);
}

void lower_half_block(unsigned vcpu, int timed)
{
	if (FAULT == 4 && work(vcpu))
		return;
	upcalls_off(vcpu);
	if (FAULT != 4 && work(vcpu)) {
		upcalls_on(vcpu);
		return;
	}
	if (timed)
		hypercall(SET_TIMER_OP, 1, 0, 0);
	upcalls_sleep(vcpu);
	if (timed)
		hypercall(SET_TIMER_OP, 0, 0, 0);
}
