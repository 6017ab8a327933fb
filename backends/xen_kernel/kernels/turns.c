/*
 * A lower half that takes one event a pass, so that a burst does not keep its main loop from other
 * work. It begins behind the port that it took last, over words and bits, so that each has its turn.
 * The words that the selector has given are kept until nothing is ready in them.
 *
 * Faults:
 *     1  it begins at the first port each time: one that fires again and again is all that is served
 *     2  the words that are left are forgotten when the selector is taken anew
 *     3  a word is not left where one port of it was taken
 */
#include "lower_half.h"

#define WORDS 64
#define NOTHING (~0u)

const int lower_half_takes_in_handler = 0;

static uint64_t left;		/* words in which something may be ready */
static unsigned next;		/* behind the port that was taken last */

static int announced(unsigned vcpu)
{
	if (delivery == BY_UPCALL_VECTOR)
		return own_info(vcpu)->evtchn_upcall_pending;
	return own_info(vcpu)->evtchn_pending_sel != 0;
}

void lower_half_start(unsigned vcpu)
{
	for (unsigned word = 0; word < WORDS && !vcpu; word++)
		shared_info.evtchn_mask[word] = ~0ul;
}

void lower_half_upcall(unsigned vcpu)
{
	acknowledge(vcpu);
}

static void take_selector(unsigned vcpu)
{
	uint64_t selected;

	own_info(vcpu)->evtchn_upcall_pending = 0;
	selected = __atomic_exchange_n(&own_info(vcpu)->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
	left = FAULT == 2 ? selected : left | selected;
}

/* The first port that is ready, from this one on and then around. */
static unsigned ready_from(unsigned first)
{
	for (unsigned i = 0; i <= WORDS; i++) {
		unsigned word = (first / 64 + i) % WORDS;
		uint64_t ready, ahead;

		if (!(left >> word & 1))
			continue;
		ready = shared_info.evtchn_pending[word] & ~shared_info.evtchn_mask[word];
		if (!ready)
			left &= ~(1ul << word);
		ahead = i ? ready : ready >> first % 64 << first % 64;
		if (ahead)
			return word * 64 + (unsigned)__builtin_ctzl(ahead);
	}
	return NOTHING;
}

void lower_half_demux(unsigned vcpu)
{
	unsigned port;

	if (announced(vcpu))
		take_selector(vcpu);
	port = ready_from(next);
	if (port == NOTHING)
		return;
	set_bit(shared_info.evtchn_mask, port);
	clear_bit(shared_info.evtchn_pending, port);
	event(vcpu, port);
	if (FAULT == 3)
		left &= ~(1ul << port / 64);
	if (FAULT != 1)
		next = (port + 1) % (64 * WORDS);
}

void lower_half_bound(unsigned port, unsigned vcpu) { (void)port, (void)vcpu; }

void lower_half_mask(unsigned port)
{
	set_bit(shared_info.evtchn_mask, port);
}

void lower_half_unmask(unsigned port)
{
	unmask_by_xen(port);
}

void lower_half_block(unsigned vcpu, int timed)
{
	upcalls_off(vcpu);
	if (announced(vcpu) || left) {
		upcalls_on(vcpu);
		return;
	}
	if (timed)
		hypercall(SET_TIMER_OP, 1, 0, 0);
	upcalls_sleep(vcpu);
}
