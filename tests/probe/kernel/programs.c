/* The task `programs`: steps, one after the other, and what became of each.
 *
 * Steps are those of tests/xen_oracle/program.py and of tests/probe/steps.py, struct step in memory.
 * The module has many programs, each begun by a step that makes the guest as new as it can be made.
 * After every step the answer is written: the result, the argument as Xen left it, each vCPU's
 * upcalls, whether it slept, and every word of shared memory that is not as it was. The same
 * interpreter in Python (simulated.py) gives the same answers on the simulator.
 *
 * That answers be the same on two machines, nothing may depend on how fast they are:
 *
 * - A vCPU keeps its interrupts off, and opens a window for them after every step, if the program has
 *   them enabled: what is due is taken there, and not earlier or later.
 * - Whether a vCPU slept is told by Xen, which counts for how long each was blocked. Where an alarm
 *   may have come before the vCPU could sleep, it is done again, with an alarm that comes later.
 * - A timer that is to fire is waited for, by a later one of the same processor: Xen runs a
 *   processor's timers in order.
 * - vCPU 1 does its steps while vCPU 0 waits for it, and the other way round.
 */
#include "probe.h"

#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>

#include "kinds.h"

enum { MAKES_EOI = 1, CLEARS = 2 };	/* STEP_HANDLER's flags */
enum { ALARM = 1000000 };		/* ns after which a sleep is ended, at first */
#define FAR 400000000ull	/* ns; no two processors' clocks are so far apart */
#define DAY 86400000000000ull
enum { STORM = 100 };			/* upcalls in one window, after which the handler clears */

static unsigned int vcpus, handler, enabled[VCPUS];
static enum delivery delivery;
static uint8_t shadow[1 + FRAMES + GRANT_FRAMES + FRAMES + 1][PAGE];

/* vCPU 0 and vCPU 1: whose turn it is */
static volatile unsigned int turn;
static const struct step *volatile handed;
static struct answer *volatile answering;

static void take_upcall(unsigned int vcpu)
{
	if ((handler & CLEARS) || cpus[vcpu].storm >= STORM)
		shared_info.vcpu_info[vcpu].evtchn_upcall_pending = 0;
	if (handler & MAKES_EOI)
		eoi();
}

/* Xen looks for what is due whenever it has run: a flag that the guest sets by hand does nothing
 * before. */
static void open_window(void)
{
	cpus[this_vcpu()].storm = 0;
	sti();
	hypercall(__HYPERVISOR_xen_version, 0, 0, 0);
	cli();
}

static uint64_t blocked_for(void)
{
	struct vcpu_runstate_info info;

	vcpu_op(VCPUOP_get_runstate_info, this_vcpu(), &info);
	return info.time[RUNSTATE_blocked];
}

static int64_t poll_until(uint64_t timeout, unsigned int count, evtchn_port_t *ports)
{
	struct sched_poll poll = { .nr_ports = count, .timeout = timeout };

	set_xen_guest_handle(poll.ports, ports);
	return sched_op(SCHEDOP_poll, &poll);
}

/* Steps that sleep. Each tries with an alarm after `ns`, and is done once it is sure what came first. */

/* A poll's timeout is a timer of the processor that Xen made the vCPU on, wherever the vCPU is now,
 * and processors' clocks are apart: by milliseconds where the machine is busy. So it may be up before
 * the vCPU could sleep. A poll that does not sleep is believed when it was to be a long one. */
static int poll(const struct step *step, struct answer *answer, uint64_t ns)
{
	static evtchn_port_t ports[VCPUS][160];
	unsigned int vcpu = this_vcpu(), given = step->size / 4;
	uint64_t before = blocked_for(), begun;
	uint32_t upcalls;

	for (unsigned int n = 0; n < step->number && n < 160; n++)
		ports[vcpu][n] = given ? ((uint32_t *)step->data)[n % given] : 0;
	cpus[vcpu].storm = 0;
	if (enabled[vcpu])
		sti_nop();	/* what was due is taken here */
	upcalls = cpus[vcpu].upcalls;
	begun = now();
	answer->result = poll_until(begun + ns, step->number, ports[vcpu]);
	cli();
	answer->slept = blocked_for() != before;
	return answer->result || answer->slept || cpus[vcpu].upcalls != upcalls ||
	       (ns >= FAR && now() < begun + ns / 2);
}

static int sleep(const struct step *step, struct answer *answer, uint64_t ns)
{
	struct cpu *cpu = &cpus[this_vcpu()];
	uint32_t upcalls = cpu->upcalls, watchdogs = cpu->watchdogs;
	uint64_t before = blocked_for();

	cpu->storm = 0;
	watchdog_again = ns;	/* it may strike before there is anybody to wake */
	watchdog(ns);
	if (step->kind == STEP_HLT)
		sti_hlt();
	else {
		sti();
		answer->result = sched_op(SCHEDOP_block, NULL);
	}
	cli();
	watchdog_again = 0;
	watchdog(0);
	answer->slept = blocked_for() != before;
	return answer->slept || cpu->upcalls != upcalls || cpu->watchdogs == watchdogs;
}

static void until_sure(int (*attempt)(const struct step *, struct answer *, uint64_t),
		       const struct step *step, struct answer *answer)
{
	for (uint64_t ns = ALARM; !attempt(step, answer, ns); ns *= 4)
		;
}

/* Wait until all timers of this processor up to this time have fired. Whoever slept then, and was woken
 * long before the poll's own time was up, was woken by one of them, or by the silent watchdog, which
 * comes after them. One that strikes before there is anybody to wake is wound up again. */
static void wait_for_timers(uint64_t deadline)
{
	uint64_t before, begun, strikes;

	silence_watchdog(1);
	for (uint64_t ns = ALARM;; ns *= 2) {
		before = blocked_for();
		begun = now();
		strikes = (deadline > begun ? deadline : begun) + ns;
		watchdog(strikes - begun);
		poll_until(strikes + FAR, 0, NULL);
		if (blocked_for() != before && now() > deadline && now() < strikes + FAR / 2)
			break;
	}
	watchdog(0);
	silence_watchdog(0);
}

static int64_t timer(const struct step *step)
{
	unsigned int vcpu = this_vcpu();
	int64_t ns = *(int64_t *)step->data, result;
	struct vcpu_set_singleshot_timer once = { .timeout_abs_ns = ns };
	struct vcpu_set_periodic_timer every = { .period_ns = ns };
	uint64_t begun = now(), fires = begun;

	switch (step->number) {
	case TIMER_SET_AHEAD:
		result = set_timer_op(begun + ns);
		if (ns > 0)
			fires = begun + ns;
		break;
	case TIMER_SET:
		result = set_timer_op(ns);
		break;
	case TIMER_SET_MISTAKEN:
		result = set_timer_op(ns < 0 ? (uint64_t)ns : begun + ns);
		fires = now() + 100000000;
		break;
	case TIMER_ONCE_AHEAD:
		once.timeout_abs_ns += begun;
		if (ns > 0)
			fires = begun + ns;
		result = vcpu_op(VCPUOP_set_singleshot_timer, vcpu, &once);
		break;
	case TIMER_ONCE:
		result = vcpu_op(VCPUOP_set_singleshot_timer, vcpu, &once);
		break;
	case TIMER_ONCE_OF_ANOTHER:
		return vcpu_op(VCPUOP_set_singleshot_timer, !vcpu, &once);
	case TIMER_ONCE_STOP:
		return vcpu_op(VCPUOP_stop_singleshot_timer, vcpu, NULL);
	default:
		result = vcpu_op(VCPUOP_set_periodic_timer, vcpu, &every);
		if (result)
			return result;
		wait_for_timers(now() + ns);
		return vcpu_op(VCPUOP_stop_periodic_timer, vcpu, NULL);
	}
	if (ns && fires - begun < 200000000)
		wait_for_timers(fires);
	return result;
}

/* Hypercall 32. The argument ends where nothing can be read any more. Frames have numbers of the
 * program's own, from 0; any other number is of a frame that there is not. */
static int64_t event_channel(const struct step *step, struct answer *answer)
{
	uint8_t *argument = (uint8_t *)(1ull << 32) - step->size;
	int names_frame = step->number == EVTCHNOP_init_control ||
			  step->number == EVTCHNOP_expand_array;
	uint64_t *frame = (uint64_t *)argument;
	int64_t result;

	memcpy(argument, step->data, step->size);
	if (names_frame && step->size >= 8)
		*frame += *frame < FRAMES ? (uintptr_t)frames / PAGE : 1ull << 36;
	result = event_channel_op(step->number, argument);
	if (names_frame && step->size >= 8)
		memcpy(argument, step->data, 8);
	memcpy(answer->argument, argument, step->size);
	return result;
}

static int64_t upcall_vector(unsigned int vector)
{
	struct xen_hvm_evtchn_upcall_vector set = { .vcpu = this_vcpu(), .vector = vector };

	return hypercall(__HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector, (uintptr_t)&set, 0);
}

static void store(const struct step *step)
{
	unsigned int page = step->number >> 16;
	uint8_t *base = page ? frames[page - 1] : (uint8_t *)&shared_info;
	volatile uint64_t *word = (uint64_t *)(base + (step->number & 0xffff));
	const uint64_t *keep_flip = (const uint64_t *)step->data;

	*word = (*word & keep_flip[0]) ^ keep_flip[1];
}

/* As new: no port, no event, no timer, nothing requested, nothing in service, interrupts off. */
static int64_t begin(void)
{
	struct evtchn_reset reset = { .dom = DOMID_SELF };
	struct vcpu_set_singleshot_timer once = { .timeout_abs_ns = now() + DAY };
	unsigned int vcpu = this_vcpu();
	int64_t result = 0;

	vcpu_op(VCPUOP_set_singleshot_timer, vcpu, &once);	/* from now on this processor's */
	vcpu_op(VCPUOP_stop_singleshot_timer, vcpu, NULL);
	if (vcpu == 0) {
		result = event_channel_op(EVTCHNOP_reset, &reset);
		for (unsigned int n = 0; n < VCPUS; n++) {
			*(volatile uint16_t *)&shared_info.vcpu_info[n] = 0;
			shared_info.vcpu_info[n].evtchn_pending_sel = 0;
		}
		memset(shared_info.evtchn_pending, 0, 512);
		memset(shared_info.evtchn_mask, 0, 512);
		if (!result)
			result = grants_begin();
		memset(frames, 0, sizeof(frames));
	}
	handler = MAKES_EOI | CLEARS;
	eoi();
	open_window();
	enabled[vcpu] = 0;
	return result;
}

static void perform(const struct step *step, struct answer *answer)
{
	unsigned int vcpu = this_vcpu();

	switch (step->kind) {
	case STEP_EVENT_CHANNEL_OP:
		answer->result = event_channel(step, answer);
		break;
	case STEP_POLL:
		until_sure(poll, step, answer);
		break;
	case STEP_BLOCK:
		if (enabled[vcpu])
			until_sure(sleep, step, answer);
		break;
	case STEP_HLT:
		until_sure(sleep, step, answer);
		open_window();
		break;
	case STEP_INTERRUPTS:
		enabled[vcpu] = step->number;
		break;
	case STEP_STORE:
		store(step);
		break;
	case STEP_BEGIN:
		answer->result = begin();
		break;
	case STEP_TIMER:
		answer->result = timer(step);
		break;
	case STEP_HANDLER:
		handler = step->number;
		break;
	case STEP_EOI:
		eoi();
		break;
	case STEP_IN:
		answer->result = inb(step->number);
		break;
	case STEP_OUT:
		outb(step->number, step->data[0]);
		break;
	case STEP_UPCALL_VECTOR:
		answer->result = upcall_vector(step->number);
		break;
	case STEP_GRANT_TABLE_OP:
		answer->result = grant_table_op(step, answer);
		break;
	case STEP_GRANT_ENTRY:
	case STEP_MAPPED_STORE:
	case STEP_MAPPED_LOAD:
		answer->result = grants_step(step);
		break;
	case STEP_IS_UP:
		answer->result = vcpu_op(VCPUOP_is_up, step->number, NULL);
		break;
	}
}

/* A vCPU's turn: a step, if it is its own, and a window. */
static void take_turn(const struct step *step, struct answer *answer)
{
	unsigned int vcpu = this_vcpu();

	if (step->vcpu == vcpu)
		perform(step, answer);
	if (enabled[vcpu])
		open_window();
}

static void let_second(const struct step *step, struct answer *answer)
{
	handed = step;
	answering = answer;
	turn = 1;
	while (turn)
		sched_op(SCHEDOP_yield, NULL);
}

void programs_second(void)
{
	deliver_by(delivery, 1);
	for (;;) {
		while (!turn)
			sched_op(SCHEDOP_yield, NULL);
		take_turn(handed, answering);
		turn = 0;
	}
}

/* Words that are not as they were. */
static void compare(struct answer *answer, unsigned int page, const void *is, unsigned int from,
		    unsigned int end)
{
	const volatile uint64_t *word = is;
	uint64_t *was = (uint64_t *)shadow[page];

	for (unsigned int at = from / 8; at < end / 8; at++)
		if (word[at] != was[at]) {
			was[at] = word[at];
			answer->change[answer->changes++] =
				(struct change){ page << 16 | at * 8, was[at] };
		}
}

/* Pages that have to do with grants: this guest's table, the other's pages and its table. */
static void compare_grants(struct answer *answer)
{
	unsigned int from;
	int of_entries;
	const volatile uint64_t *word;

	for (unsigned int index = 0; (word = grants_page(index, &from, &of_entries)); index++) {
		uint64_t *was = (uint64_t *)shadow[1 + FRAMES + index];

		for (unsigned int n = from; n < PAGE / 8; n++)
			if (word[n] != was[n]) {
				was[n] = word[n];
				answer->change[answer->changes++] = (struct change){
					(1 + FRAMES + index) << 16 | n * 8,
					of_entries ? grants_told(was[n]) : was[n]
				};
			}
	}
}

static void compare_all(struct answer *answer)
{
	for (unsigned int vcpu = 0; vcpu < VCPUS; vcpu++)
		compare(answer, 0, &shared_info, vcpu * 64, vcpu * 64 + 16);
	compare(answer, 0, &shared_info, offsetof(struct shared_info, evtchn_pending),
		offsetof(struct shared_info, wc_version));
	for (unsigned int page = 0; page < FRAMES; page++)
		compare(answer, 1 + page, frames[page], 0, PAGE);
	compare_grants(answer);
}

void programs(const struct module *module)
{
	const struct step *step = (const struct step *)module->rest;
	unsigned int steps = module->words[0];
	uint64_t begun;

	vcpus = module->vcpus;
	delivery = module->delivery;
	handler = MAKES_EOI | CLEARS;
	upcall_handler = take_upcall;
	deliver_by(delivery, 0);
	grants_start();
	if (vcpus > 1)
		report->words[0] = start_second();
	begun = now();
	for (unsigned int n = 0; n < steps; n++, step++) {
		struct answer *answer = (struct answer *)(report->rest + report->used);

		if (report->used > REPORT_SIZE)
			finish(FULL);
		*answer = (struct answer){ 0 };
		report->words[1] = n;
		if (step->vcpu == 0)
			take_turn(step, answer);
		if (vcpus > 1 && (step->vcpu == 1 || enabled[1]))
			let_second(step, answer);
		if (step->vcpu == 1)
			take_turn(step, answer);
		compare_all(answer);
		for (unsigned int vcpu = 0; vcpu < VCPUS; vcpu++)
			answer->upcalls[vcpu] = cpus[vcpu].upcalls;
		report->used += sizeof(*answer) + answer->changes * sizeof(struct change);
		report->words[2] = now() - begun;
	}
}
