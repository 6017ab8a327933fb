/*
 * A lower half in the style of OpenBSD's: the handler takes the selector, and for each word what is
 * pending and not masked. Each such port is masked, its pending bit cleared, and its service put on
 * a queue; when that has run, the port is unmasked by Xen.
 *
 * Faults:
 *     1  the selector is read and then cleared, and not exchanged
 *     2  a port is unmasked without Xen, which would look for what came meanwhile
 *     3  the flag is not cleared where nothing was selected
 *     4  all that was pending is cleared at once, masked ports too
 *     5  services are queued by `|=` and taken by `&=`: each one instruction on x86, which no
 *        interrupt comes into, and on arm64 several
 */
#include "lower_half.h"

const int lower_half_takes_in_handler = FAULT != 5;

static uint64_t queued;	/* fault 5: services of the first ports */

void lower_half_start(unsigned vcpu)
{
	for (unsigned word = 0; word < 64 && !vcpu; word++)
		shared_info.evtchn_mask[word] = ~0ul;
}

static uint64_t take_selector(unsigned vcpu)
{
	volatile uint64_t *selector = &own_info(vcpu)->evtchn_pending_sel;
	uint64_t selected;

	if (FAULT != 1)
		return __atomic_exchange_n(selector, 0, __ATOMIC_SEQ_CST);
	selected = *selector;
	*selector = 0;
	return selected;
}

static void serve_word(unsigned vcpu, unsigned word)
{
	uint64_t ready = shared_info.evtchn_pending[word] & ~shared_info.evtchn_mask[word];

	if (FAULT == 4)
		__atomic_exchange_n(&shared_info.evtchn_pending[word], 0, __ATOMIC_SEQ_CST);
	for (; ready; ready &= ready - 1) {
		unsigned port = word * 64 + (unsigned)__builtin_ctzl(ready);

		set_bit(shared_info.evtchn_mask, port);
		if (FAULT != 4)
			clear_bit(shared_info.evtchn_pending, port);
		if (FAULT == 5)
			queued |= 1ul << port;
		else
			event(vcpu, port);
	}
}

void lower_half_upcall(unsigned vcpu)
{
	uint64_t selected;

	if (delivery == BY_UPCALL_VECTOR)
		eoi();
	if (FAULT != 3)
		own_info(vcpu)->evtchn_upcall_pending = 0;
	selected = take_selector(vcpu);
	if (FAULT == 3 && selected)
		own_info(vcpu)->evtchn_upcall_pending = 0;
	for (; selected; selected &= selected - 1)
		serve_word(vcpu, (unsigned)__builtin_ctzl(selected));
}

void lower_half_demux(unsigned vcpu)
{
	uint64_t ready = *(volatile uint64_t *)&queued;

	for (; ready; ready &= ready - 1) {
		queued &= ~(ready & -ready);
		event(vcpu, (unsigned)__builtin_ctzl(ready));
	}
}

void lower_half_bound(unsigned port, unsigned vcpu) { (void)port, (void)vcpu; }

void lower_half_mask(unsigned port)
{
	set_bit(shared_info.evtchn_mask, port);
}

void lower_half_unmask(unsigned port)
{
	if (FAULT == 2)
		clear_bit(shared_info.evtchn_mask, port);
	else
		unmask_by_xen(port);
}

void lower_half_block(unsigned vcpu, int timed)
{
	upcalls_off(vcpu);
	if (work(vcpu) || queued) {
		upcalls_on(vcpu);
		return;
	}
	if (timed)
		hypercall(SET_TIMER_OP, 1, 0, 0);
	upcalls_sleep(vcpu);
}
