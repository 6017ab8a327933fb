/*
 * A lower half in the style of FreeBSD's: as Mini-OS's, but the mask bit is Xen's to clear, by
 * EVTCHNOP_unmask, which tells the vCPU of what came meanwhile. Each vCPU takes the ports that are
 * bound to it.
 *
 * Faults:
 *     1  unmask clears the bit by itself, and does not look
 *     2  the scan goes by a pending word that was read once, and clears all it read at its end
 *     3  the pending bit is cleared after the consumer was told, and the port is not masked
 *     4  hlt without sti's shadow: something stands between the two
 */
#include "lower_half.h"

#define VCPUS 4

const int lower_half_takes_in_handler = 1;

static uint64_t bound_to[VCPUS][64];

void lower_half_start(unsigned vcpu)
{
	for (unsigned word = 0; word < 64 && !vcpu; word++)
		shared_info.evtchn_mask[word] = ~0ul;
}

static uint64_t active(unsigned vcpu, unsigned word)
{
	return shared_info.evtchn_pending[word] & bound_to[vcpu][word] &
	       ~shared_info.evtchn_mask[word];
}

static void take(unsigned vcpu, unsigned port)
{
	if (FAULT != 3)
		set_bit(shared_info.evtchn_mask, port);
	if (FAULT != 2 && FAULT != 3)
		clear_bit(shared_info.evtchn_pending, port);
	event(vcpu, port);
	if (FAULT == 3)
		clear_bit(shared_info.evtchn_pending, port);
}

static void scan_word(unsigned vcpu, unsigned word)
{
	uint64_t ready, all = 0;

	while ((ready = active(vcpu, word) & ~all)) {
		all |= ready & -ready;
		take(vcpu, word * 64 + (unsigned)__builtin_ctzl(ready));
		if (FAULT != 2)
			all = 0;
	}
	if (FAULT == 2)
		shared_info.evtchn_pending[word] = 0;
}

void lower_half_upcall(unsigned vcpu)
{
	uint64_t selected;

	if (delivery == BY_UPCALL_VECTOR)
		eoi();
	own_info(vcpu)->evtchn_upcall_pending = 0;
	selected = __atomic_exchange_n(&own_info(vcpu)->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
	for (; selected; selected &= selected - 1)
		scan_word(vcpu, (unsigned)__builtin_ctzl(selected));
}

void lower_half_demux(unsigned vcpu) { (void)vcpu; }

void lower_half_bound(unsigned port, unsigned vcpu)
{
	set_bit(bound_to[vcpu], port);
}

void lower_half_mask(unsigned port)
{
	set_bit(shared_info.evtchn_mask, port);
}

void lower_half_unmask(unsigned port)
{
	if (FAULT == 1)
		clear_bit(shared_info.evtchn_mask, port);
	else
		unmask_by_xen(port);
}

void lower_half_block(unsigned vcpu, int timed)
{
	upcalls_off(vcpu);
	if (work(vcpu)) {
		upcalls_on(vcpu);
		return;
	}
	if (timed)
		hypercall(SET_TIMER_OP, 1, 0, 0);
	if (FAULT == 4 && delivery != BY_PV_UPCALL)
		__asm__ volatile("sti; nop; hlt" ::: "memory");
	else
		upcalls_sleep(vcpu);
}
