/* The task `lower half`: where is an event lost that comes between two instructions?
 *
 * A guest takes an event, finds no other, and sleeps; a second event comes on the way, for the same
 * port or another. The processor's trap flag has `stepped` entered after every instruction, of the
 * main flow and of the handler, and after as many of them as a round says it sends that second
 * event. So a round after the other has it come at every place there is, up to a `hlt`. Each round
 * ends asleep, by the watchdog: if an event was sent then, and nobody has looked for it since, a
 * wake-up was lost.
 *
 * The lower halves are those that the engine explores (halves.py), and the loop around them is that
 * of its harness. Each round begins as a boot does: their memory as it was, no port, no event.
 *
 * Xen does not sleep in a hlt that is stepped over, and no trap comes behind sti. So the last place is
 * the one before `hlt`, or before `sti; hlt`. The lower half is not told of any of this.
 */
#include "probe.h"

#define PATIENCE 2000000ull	/* ns that it sleeps before the watchdog strikes */
#define PORTS 2			/* at most */
#define STRIKES 50		/* of the watchdog, after which it is awake for good */

enum outcome { WOKEN, LOST, NO_SECOND_EVENT, AWAKE };

struct round {
	uint64_t rip;		/* of the instruction before which the second event came */
	uint32_t outcome;	/* enum outcome */
	uint32_t taken;		/* events */
};

struct sweep {
	uint32_t half, scenario;
	uint32_t rounds, pad;
	struct round round[];
};

/* A lower half, as include/lower_half.h has its contract. */
struct half {
	const int *takes_in_handler;
	void (*start)(unsigned vcpu), (*upcall)(unsigned vcpu), (*demux)(unsigned vcpu);
	void (*bound)(unsigned port, unsigned vcpu), (*unmask)(unsigned port);
	void (*block)(unsigned vcpu, int timed);
};

#include "table.h"

/* What it is given, beside shared_info, the hypercall page and eoi(). */
unsigned delivery;
void event(unsigned vcpu, unsigned port);
int work(unsigned vcpu);

extern uint8_t halves_begin[], halves_end[];

static const struct half *half;
static unsigned ports;		/* that it has */
static int spread;		/* each in a selector's word of its own */
static struct { uint32_t port; struct evtchn_send other_end; } channel[PORTS];
static volatile uint32_t fired[PORTS], produced[PORTS], seen[PORTS];
static volatile uint32_t taken;

static volatile int armed;		/* instructions are counted */
static volatile unsigned steps_left;
static volatile uint64_t struck;	/* where the second event came; 0 before */

void event(unsigned vcpu, unsigned port)
{
	taken++;
	for (unsigned n = 0; n < ports; n++)
		if (channel[n].port == port)
			fired[n] = 1;
}

int work(unsigned vcpu)
{
	return fired[0] || fired[1];
}

static void send(unsigned n)
{
	produced[n]++;
	event_channel_op(EVTCHNOP_send, &channel[n].other_end);
}

int stepped(uint64_t rip)
{
	const uint8_t *next = (const uint8_t *)rip;

	if (!armed || struck)
		return 0;
	if (!steps_left--) {
		struck = rip;
		send(ports - 1);
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

static void upcall(unsigned int vcpu)
{
	if (!armed) {
		shared_info.vcpu_info[0].evtchn_upcall_pending = 0;
		eoi();
		return;
	}
	if (!struck)
		step_from_here();
	half->upcall(vcpu);
	stop_stepping();
}

/* Both ends of a port; it is in the selector's word that it has to be in. */
static void bind(unsigned n)
{
	struct evtchn_alloc_unbound ours = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
	struct evtchn_bind_interdomain theirs = { .remote_dom = DOMID_SELF };

	do
		event_channel_op(EVTCHNOP_alloc_unbound, &ours);
	while (spread && ours.port / 64 != n);
	channel[n].port = theirs.remote_port = ours.port;
	event_channel_op(EVTCHNOP_bind_interdomain, &theirs);
	channel[n].other_end.port = theirs.local_port;
}

/* As new, with interrupts off. */
static void boot(const uint8_t *kept)
{
	struct evtchn_reset reset = { .dom = DOMID_SELF };

	armed = 0;
	eoi();
	sti_nop();
	cli();
	event_channel_op(EVTCHNOP_reset, &reset);
	memset((void *)shared_info.evtchn_pending, 0, sizeof(shared_info.evtchn_pending));
	shared_info.vcpu_info[0].evtchn_pending_sel = 0;
	shared_info.vcpu_info[0].evtchn_upcall_pending = 0;
	memcpy(halves_begin, kept, halves_end - halves_begin);
	half->start(0);
	for (unsigned n = 0; n < PORTS; n++) {
		fired[n] = produced[n] = seen[n] = 0;
		if (n < ports)
			bind(n);
	}
	for (unsigned n = 0; n < ports; n++) {
		half->bound(channel[n].port, 0);
		half->unmask(channel[n].port);
	}
	eoi();
	sti_nop();
	cli();
}

/* Whether it slept, and the watchdog alone woke it. An upcall that was due as well is taken in the same
 * hlt, or as soon as Xen lets the guest run again: then it is that one that counts, and the watchdog
 * is wound up again. */
static int nobody_wakes_it(void)
{
	static uint32_t watchdogs, upcalls;
	struct cpu *cpu = &cpus[0];
	int slept = cpu->watchdogs_asleep != watchdogs, woken;

	if (slept)
		hypercall(__HYPERVISOR_xen_version, 0, 0, 0);
	woken = cpu->upcalls_asleep != upcalls || cpu->upcalls != cpu->upcalls_by_then;
	watchdogs = cpu->watchdogs_asleep;
	upcalls = cpu->upcalls_asleep;
	if (slept && woken)
		watchdog(PATIENCE);
	return slept && !woken;
}

/* Look what was produced, and unmask, for each port that fired. Whether any has. */
static int consume(void)
{
	int some = 0;

	for (unsigned n = 0; n < ports; n++)
		if (fired[n]) {
			fired[n] = 0;
			seen[n] = produced[n];
			half->unmask(channel[n].port);
			some = 1;
		}
	return some;
}

/* A guest's turns, until it sleeps and only the watchdog wakes it. Whether it did. */
static int take_turns(void)
{
	uint32_t begun = cpus[0].watchdogs;
	int asleep;

	sti();
	while (!(asleep = nobody_wakes_it()) && cpus[0].watchdogs - begun < STRIKES) {
		if (!struck)
			step_from_here();
		half->demux(0);
		if (!consume())
			half->block(0, 0);
	}
	stop_stepping();
	return asleep;
}

static struct round one_round(unsigned int steps, const uint8_t *kept)
{
	struct round round;
	int asleep;

	boot(kept);
	taken = struck = 0;
	steps_left = steps;
	send(0);
	armed = 1;
	watchdog(PATIENCE);
	asleep = take_turns();
	watchdog(0);
	armed = 0;
	round.rip = struck;
	round.taken = taken;
	round.outcome = !asleep ? AWAKE : !struck ? NO_SECOND_EVENT : WOKEN;
	for (unsigned n = 0; asleep && struck && n < ports; n++)
		if (seen[n] != produced[n])
			round.outcome = LOST;
	return round;
}

static void sweep(uint32_t number, uint32_t scenario, const uint8_t *kept)
{
	struct sweep *sweep = (struct sweep *)(report->rest + report->used);
	struct round *round = sweep->round;

	*sweep = (struct sweep){ .half = number, .scenario = scenario };
	half = &halves[number];
	ports = scenario & 0xff;
	spread = scenario >> 8;
	for (unsigned int steps = 0;; steps++, round++) {
		report->words[0] = number;
		report->words[1] = steps;
		*round = one_round(steps, kept);
		if (!round->rip)
			break;
	}
	sweep->rounds = round - sweep->round;
	report->used = (uint8_t *)round - report->rest;
}

/* words: the scenario, how many lower halves, and each. */
void lower_half_task(const struct module *module)
{
	static uint8_t kept[1 << 20];

	memcpy(kept, halves_begin, halves_end - halves_begin);
	delivery = module->delivery;
	upcall_handler = upcall;
	watchdog_again = PATIENCE;
	deliver_by(module->delivery, 0);
	for (unsigned int n = 0; n < module->words[1]; n++)
		sweep(module->words[2 + n], module->words[0], kept);
}
