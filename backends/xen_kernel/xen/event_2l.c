/*
 * The two-level ABI, as xen/common/event_2l.c has it: pending, selector, upcall, and those who
 * poll, in this order. Unmasking acts on a masked port alone.
 */
#include "xen.h"

static void select_word(unsigned port)
{
	unsigned vcpu = channel[port].vcpu;

	if (!test_and_set(&shared_info.vcpu_info[vcpu].evtchn_pending_sel, port >> 6))
		mark_events_pending(vcpu);
}

static void set_pending(unsigned port)
{
	if (test_and_set(shared_info.evtchn_pending, port))
		return;
	if (!test(shared_info.evtchn_mask, port))
		select_word(port);
	wake_pollers(port);
}

static void clear_pending(unsigned port)
{
	test_and_clear(shared_info.evtchn_pending, port);
}

static void unmask(unsigned port)
{
	if (test_and_clear(shared_info.evtchn_mask, port) &&
	    test(shared_info.evtchn_pending, port))
		select_word(port);
}

static int is_pending(unsigned port)
{
	return test(shared_info.evtchn_pending, port);
}

static int is_masked(unsigned port)
{
	return test(shared_info.evtchn_mask, port);
}

const struct port_operations two_level = {set_pending, clear_pending, unmask, is_pending, is_masked};
