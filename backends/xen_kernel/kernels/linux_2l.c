/*
 * A lower half in the style of Linux's on the two-level ABI: the handler clears the flag and scans,
 * again for as long as the flag has been set meanwhile; it begins behind the word where it stopped
 * the last time. Each vCPU takes the ports that are bound to it. To unmask, it clears the bit; where
 * an event came meanwhile, it sets it again and asks Xen, which acts on a masked port alone.
 *
 * Faults:
 *     1  unmask asks Xen without setting the mask bit again, and Xen does nothing
 *     2  a vCPU takes the ports of all: it clears the selector of another's word
 *     3  the flag is cleared after the scan
 *     4  block looks for work with upcalls on
 *     5  the pending bit is read, and written back without a lock
 *     6  unmask clears the bit with no order: on arm64 it may look for what came before that is seen
 */
#include "lower_half.h"

#define VCPUS 4

const int lower_half_takes_in_handler = 1;

static uint64_t bound_to[VCPUS][64];
static unsigned first_word[VCPUS];

void lower_half_start(unsigned vcpu)
{
	for (unsigned word = 0; word < 64 && !vcpu; word++)
		shared_info.evtchn_mask[word] = ~0ul;
}

static uint64_t active(unsigned vcpu, unsigned word)
{
	uint64_t own = FAULT == 2 ? ~0ul : bound_to[vcpu][word];

	return shared_info.evtchn_pending[word] & own & ~shared_info.evtchn_mask[word];
}

static void scan_word(unsigned vcpu, unsigned word)
{
	uint64_t ready;

	while ((ready = active(vcpu, word))) {
		unsigned port = word * 64 + (unsigned)__builtin_ctzl(ready);

		event(vcpu, port);
		set_bit(shared_info.evtchn_mask, port);
		if (FAULT == 5)
			shared_info.evtchn_pending[word] &= ~(1ul << (port & 63));
		else
			clear_bit(shared_info.evtchn_pending, port);
	}
}

static void scan(unsigned vcpu)
{
	uint64_t selected =
		__atomic_exchange_n(&own_info(vcpu)->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);

	while (selected) {
		uint64_t ahead = selected >> first_word[vcpu] << first_word[vcpu];
		unsigned word = (unsigned)__builtin_ctzl(ahead ? ahead : selected);

		selected &= ~(1ul << word);
		scan_word(vcpu, word);
		first_word[vcpu] = (word + 1) % 64;
	}
}

void lower_half_upcall(unsigned vcpu)
{
	if (delivery == BY_UPCALL_VECTOR)
		eoi();
	do {
		if (FAULT != 3)
			own_info(vcpu)->evtchn_upcall_pending = 0;
		scan(vcpu);
		if (FAULT == 3)
			own_info(vcpu)->evtchn_upcall_pending = 0;
	} while (own_info(vcpu)->evtchn_upcall_pending);
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

static void clear_with_no_order(volatile uint64_t *words, unsigned bit)
{
	__atomic_fetch_and(&words[bit >> 6], ~(1ul << (bit & 63)), __ATOMIC_RELAXED);
}

void lower_half_unmask(unsigned port)
{
	if (FAULT == 6)
		clear_with_no_order(shared_info.evtchn_mask, port);
	else
		clear_bit(shared_info.evtchn_mask, port);
	if (!has_bit(shared_info.evtchn_pending, port))
		return;
	if (FAULT != 1)
		set_bit(shared_info.evtchn_mask, port);
	unmask_by_xen(port);
}

void lower_half_block(unsigned vcpu, int timed)
{
	struct { uint64_t deadline; uint32_t flags; } timer = { 1, 0 };

	if (FAULT == 4 && work(vcpu))
		return;
	upcalls_off(vcpu);
	if (FAULT != 4 && work(vcpu)) {
		upcalls_on(vcpu);
		return;
	}
	if (timed)
		hypercall(VCPU_OP, VCPUOP_SET_SINGLESHOT_TIMER, vcpu, &timer);
	upcalls_sleep(vcpu);
}
