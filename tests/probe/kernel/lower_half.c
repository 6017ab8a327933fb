/* The wake invariant: only Xen sets evtchn_upcall_pending, only the demux clears it, and it is looked
 * at with interrupts off right before sleeping. `sti; hlt` then sleeps only if nothing came since.
 *
 * By the callback vector, upcalls are a level: Xen enters the handler again until it has cleared the
 * flag. There the handler clears it, and the look goes by the selector, which Xen sets first.
 */
#include "lower_half.h"

#include <xen/xen.h>
#include <xen/event_channel.h>

#include "cpu.h"
#include "hypercall.h"

unsigned int faults;
int level;

extern struct shared_info shared_info;

static volatile struct shared_info *const shared = &shared_info;

static int announced(void)
{
	const volatile struct vcpu_info *vcpu = &shared->vcpu_info[0];

	return level ? vcpu->evtchn_pending_sel != 0 : vcpu->evtchn_upcall_pending != 0;
}

void lower_half_upcall(void)
{
	if (level || (faults & HANDLER_CLEARS))
		shared->vcpu_info[0].evtchn_upcall_pending = 0;
}

unsigned int lower_half_demux(uint32_t *ports, unsigned int most)
{
	volatile struct vcpu_info *vcpu = &shared->vcpu_info[0];
	unsigned int count = 0;
	uint64_t selected, ready;

	if (!announced() && !(faults & HANDLER_CLEARS))	/* of which the flag says nothing */
		return 0;
	vcpu->evtchn_upcall_pending = 0;
	for (selected = xchg(&vcpu->evtchn_pending_sel, 0); selected; selected &= selected - 1) {
		unsigned int word = __builtin_ctzll(selected);

		/* Read anew for each port: one that was masked meanwhile is not taken. */
		while ((ready = shared->evtchn_pending[word] & ~shared->evtchn_mask[word])) {
			uint32_t port = word * 64 + __builtin_ctzll(ready);

			if (!(faults & DEMUX_LEAVES_UNMASKED))
				bts(shared->evtchn_mask, port);
			btr(shared->evtchn_pending, port);
			if (count < most)
				ports[count++] = port;
		}
	}
	return count;
}

void lower_half_unmask(uint32_t port)
{
	struct evtchn_unmask unmask = { .port = port };
	const volatile uint64_t *words;

	btr(shared->evtchn_mask, port);
	words = faults & UNMASK_TESTS_MASK ? shared->evtchn_mask : shared->evtchn_pending;
	if (test_bit(words, port)) {
		bts(shared->evtchn_mask, port);	/* Xen unmasks only what is masked */
		event_channel_op(EVTCHNOP_unmask, &unmask);
	}
}

void lower_half_block(uint64_t deadline)
{
	if (faults & SLEEPS_WITH_INTERRUPTS_ON) {
		if (announced())
			return;
		set_timer_op(deadline);
		hlt();
		return;
	}
	cli();
	if (announced()) {
		sti();
		return;
	}
	set_timer_op(deadline);
	sti_hlt();
}
