/* The task `lower half`: where is an event lost that comes between two instructions?
 *
 * A guest with one port takes an event, finds no other, and sleeps; a second event comes on the way.
 * The processor's trap flag has `stepped` entered after every instruction, and after as many of them
 * as a round says it sends that second event. So a round after the other has it come at every place
 * there is, up to the `hlt`. Each round ends asleep, by the watchdog: if the port is pending then,
 * and not masked, a wake-up was lost.
 *
 * Xen does not sleep in a hlt that is stepped over, and no trap comes behind sti. So the last place is
 * the one before `hlt`, or before `sti; hlt`. The lower half is not told of any of this.
 */
#include "probe.h"

#include "lower_half.h"

#define PATIENCE 2000000ull	/* ns that it sleeps before the watchdog strikes */
#define DAY 86400000000000ull

enum outcome { WOKEN, LOST, NO_SECOND_EVENT };

struct round {
	uint64_t rip;		/* of the instruction before which the second event came */
	uint32_t outcome;	/* enum outcome */
	uint32_t taken;		/* events */
};

struct sweep {
	uint32_t faults;
	uint32_t rounds;
	struct round round[];
};

static struct evtchn_send other_end;
static uint32_t port;
static unsigned int steps_left;
static volatile uint64_t struck;	/* where the second event came; 0 before */

static void upcall(unsigned int vcpu)
{
	lower_half_upcall();
	eoi();
}

int stepped(uint64_t rip)
{
	const uint8_t *next = (const uint8_t *)rip;

	if (!steps_left--) {
		struck = rip;
		event_channel_op(EVTCHNOP_send, &other_end);
		return 0;
	}
	return next[0] != HLT && !(next[0] == STI && next[1] == HLT);
}

static void step_from_here(void)
{
	asm volatile("pushfq; orq %0, (%%rsp); popfq" :: "i"(TRAP_FLAG) : "memory");
}

static void stop_stepping(void)
{
	asm volatile("pushfq; andq %0, (%%rsp); popfq" :: "i"(~TRAP_FLAG) : "memory");
}

static void nothing_is_pending(void)
{
	cli();
	btr(shared_info.evtchn_mask, port);
	btr(shared_info.evtchn_pending, port);
	shared_info.vcpu_info[0].evtchn_pending_sel = 0;
	shared_info.vcpu_info[0].evtchn_upcall_pending = 0;
	sti();
}

/* Whether it slept, and the watchdog alone woke it. An upcall that was due as well is taken in the same
 * hlt, or as soon as Xen lets the guest run again: then it is that one that counts, and the watchdog
 * is wound up again. */
static int nobody_wakes_it(void)
{
	static uint32_t watchdogs, upcalls;
	struct cpu *cpu = &cpus[0];
	int struck = cpu->watchdogs_asleep != watchdogs, woken;

	if (struck)
		hypercall(__HYPERVISOR_xen_version, 0, 0, 0);
	woken = cpu->upcalls_asleep != upcalls || cpu->upcalls != cpu->upcalls_by_then;
	watchdogs = cpu->watchdogs_asleep;
	upcalls = cpu->upcalls_asleep;
	if (struck && woken)
		watchdog(PATIENCE);
	return struck && !woken;
}

/* A guest's turns, until it sleeps and only the watchdog wakes it. How many events it took. */
static unsigned int take_turns(uint64_t deadline)
{
	unsigned int taken = 0, count;
	uint32_t ports[4];

	step_from_here();
	while (!nobody_wakes_it()) {
		count = lower_half_demux(ports, 4);
		for (unsigned int n = 0; n < count; n++)
			lower_half_unmask(ports[n]);
		taken += count;
		if (!count)
			lower_half_block(deadline);
	}
	stop_stepping();
	return taken;
}

static struct round one_round(unsigned int steps)
{
	struct round round;

	nothing_is_pending();
	event_channel_op(EVTCHNOP_send, &other_end);
	steps_left = steps;
	struck = 0;
	watchdog(PATIENCE);
	round.taken = take_turns(now() + DAY);
	watchdog(0);
	round.rip = struck;
	round.outcome = !struck ? NO_SECOND_EVENT :
			test_bit(shared_info.evtchn_pending, port) &&
			!test_bit(shared_info.evtchn_mask, port) ? LOST : WOKEN;
	return round;
}

static void sweep(unsigned int with)
{
	struct sweep *sweep = (struct sweep *)(report->rest + report->used);
	struct round *round = sweep->round;

	sweep->faults = faults = with;
	for (unsigned int steps = 0;; steps++, round++) {
		report->words[0] = steps;
		*round = one_round(steps);
		if (round->outcome == NO_SECOND_EVENT)
			break;
	}
	sweep->rounds = round - sweep->round;
	report->used = (uint8_t *)round - report->rest;
}

void lower_half_task(const struct module *module)
{
	struct evtchn_alloc_unbound ours = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
	struct evtchn_bind_interdomain theirs = { .remote_dom = DOMID_SELF };

	level = module->delivery == CALLBACK_VECTOR;
	upcall_handler = upcall;
	watchdog_again = PATIENCE;
	deliver_by(module->delivery, 0);
	event_channel_op(EVTCHNOP_alloc_unbound, &ours);
	port = theirs.remote_port = ours.port;
	event_channel_op(EVTCHNOP_bind_interdomain, &theirs);
	other_end.port = theirs.local_port;
	bts(shared_info.evtchn_mask, other_end.port);	/* it was set pending by its binding */
	for (unsigned int n = 0; n < module->words[0]; n++)
		sweep(module->words[1 + n]);
}
