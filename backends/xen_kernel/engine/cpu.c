/*
 * vCPUs. An interrupt can be taken before every step of a vCPU that has interrupts enabled, is not
 * in the shadow of sti, and not in Xen.
 *
 *     upcall vector    requested by Xen (IRR), taken once (ISR), and not again before the EOI
 *     callback vector  a level: taken again as soon as its handler returns, while
 *                      evtchn_upcall_pending is set
 *     PV               a level, held off by evtchn_upcall_mask, which is set in the handler
 *
 * hlt sleeps until an interrupt can be taken; SCHEDOP_block and SCHEDOP_poll sleep until Xen kicks
 * the vCPU as well. cli and hlt are steps of their own: before them is the last moment for an
 * interrupt. The shadow of sti covers the instruction behind it: assembly.py sees whether that is
 * the hlt.
 */
#include "search.h"

#include "explore.h"
#include "shared_info.h"

void (*upcall_handler)(unsigned vcpu);
uint32_t *cpu_raisers, *cpu_upcall_counts;

void cpu_init(void)
{
	cpu_raisers = common((MAX_VCPUS + 1) * sizeof *cpu_raisers);
	cpu_upcall_counts = cpu_raisers + MAX_VCPUS;
}

#define SITE ((uint64_t)__builtin_return_address(0) - 1)

static struct vcpu_info *info(unsigned vcpu)
{
	return &shared_info.vcpu_info[vcpu];
}

unsigned this_vcpu(void)
{
	return machine.current < machine.vcpus ? machine.current : 0;
}

static struct vcpu *self(void)
{
	return &machine.vcpu[this_vcpu()];
}

/* Whether an interrupt is due, were interrupts enabled. */
static int is_due(unsigned number)
{
	const struct vcpu *vcpu = &machine.vcpu[number];
	const struct vcpu_info *own = info(number);

	if (vcpu->in_xen || !upcall_handler || machine.agent[number].state == DONE ||
	    machine.agent[number].whole)
		return 0;
	switch (machine.delivery) {
	case UPCALL_VECTOR:
		return vcpu->requested && !vcpu->in_service;
	case CALLBACK_VECTOR:
		return own->evtchn_upcall_pending;
	default:
		return own->evtchn_upcall_pending && !own->evtchn_upcall_mask;
	}
}

int deliverable(unsigned number)
{
	const struct vcpu *vcpu = &machine.vcpu[number];

	return is_due(number) &&
	       (machine.delivery == PV_UPCALL || (vcpu->interrupts && !vcpu->shadow));
}

/* Whether a vCPU that sleeps can go on without an interrupt. */
int can_go(unsigned number)
{
	const struct vcpu *vcpu = &machine.vcpu[number];

	return (vcpu->asleep == BLOCKED && vcpu->kicked) ||
	       (vcpu->asleep == WAITS && is_due(number));
}

static void set_upcall_mask(unsigned vcpu, uint8_t value)
{
	memory_wrote(&info(vcpu)->evtchn_upcall_mask);
	info(vcpu)->evtchn_upcall_mask = value;
}

void take_interrupt(void)
{
	unsigned number = machine.current;
	struct vcpu *vcpu = &machine.vcpu[number];

	do {
		uint8_t interrupts = vcpu->interrupts;

		machine.take = 0;
		if (vcpu->handlers)
			fail(REENTERED, "the upcall's handler is entered while it runs",
			     machine.agent[number].site);
		vcpu->interrupts = 0;
		vcpu->handlers++;
		if (machine.delivery == UPCALL_VECTOR) {
			vcpu->requested = 0;
			vcpu->in_service = 1;
		}
		if (machine.delivery == PV_UPCALL)
			set_upcall_mask(number, 1);
		upcall_handler(number);
		if (machine.delivery != UPCALL_VECTOR)
			step(STEP_RETURN, 0, 0, (uint64_t)upcall_handler);
		vcpu->handlers--;
		vcpu->interrupts = interrupts;
		vcpu->shadow = 0;
		if (machine.delivery == PV_UPCALL)
			set_upcall_mask(number, 0);
	} while (machine.delivery != UPCALL_VECTOR && deliverable(number));
}

/* Where a handler sleeps, or a vCPU's code ends, its upcall is not the same before and behind a step. */
void upcall_counts(void)
{
	if (learn_bits(cpu_upcall_counts, 1))
		learned_more |= learn_contexts;
}

static void sleep_until_woken(enum sleep how)
{
	unsigned number = machine.current;

	if (machine.vcpu[number].handlers)
		upcall_counts();
	machine.vcpu[number].asleep = how;
	machine.agent[number].state = SLEEPING;
	machine.agent[number].kind = STEP_NONE;
	machine.agent[number].address = 0;
	yield();
	machine.vcpu[number].asleep = AWAKE;
	machine.vcpu[number].kicked = 0;
	machine.agent[number].state = READY;
	if (machine.take)
		take_interrupt();
}

/* The instructions, called in their place (assembly.py, stubs.S). */
void engine_cli(uint64_t site)
{
	if (machine.delivery != PV_UPCALL)
		step(STEP_CLI, 0, 0, site);
	self()->interrupts = self()->shadow = 0;
}

void engine_sti(void)
{
	self()->interrupts = 1;
	self()->shadow = 0;
}

void engine_sti_shadow(void)
{
	self()->shadow = !self()->interrupts;
	self()->interrupts = 1;
}

uint64_t engine_interrupts(void)
{
	return self()->interrupts;
}

void engine_set_interrupts(uint64_t flags, uint64_t site)
{
	if (flags >> 9 & 1)
		engine_sti();
	else if (self()->interrupts)
		engine_cli(site);
}

void engine_hlt(uint64_t site)
{
	if (!stepping)
		return;
	step(STEP_HLT, 0, 0, site);
	self()->shadow = 0;
	if (!self()->interrupts)
		fail(ASLEEP_DEAF, "hlt with interrupts disabled: the vCPU is down for good", site);
	sleep_until_woken(HALTED);
}

/* arm64's: an interrupt that is due ends it, though it is masked. */
void engine_wfi(uint64_t site)
{
	if (!stepping)
		return;
	step(STEP_WFI, 0, 0, site);
	if (!is_due(this_vcpu()))
		sleep_until_woken(WAITS);
}

void engine_fence(uint64_t site)
{
	fence(site);
}

void engine_bug(uint64_t site)
{
	fail(ASSERTION, "a BUG of the kernel's own", site);
}

void eoi(void)
{
	self()->in_service = 0;
}

/* Xen's half asks for these. */
void cpu_enter_xen(void)
{
	if (machine.current >= machine.vcpus)
		return;
	step(STEP_HYPERCALL, 0, 0, SITE);
	self()->in_xen++;
}

/* On the way back to the guest Xen looks for an interrupt: one that is due is taken now. On x86 all
 * stores are seen by then. */
void cpu_leave_xen(void)
{
	if (machine.current >= machine.vcpus)
		return;
	if (machine.order == X86_BUFFERS)
		fence(SITE);
	self()->in_xen--;
	if (stepping && deliverable(machine.current))
		take_interrupt();
}

void cpu_kick(unsigned vcpu)
{
	if (stepping && learn_bits(&cpu_raisers[vcpu], memory_context()))
		learned_more |= learn_contexts;
	step(STEP_RAISE, 0, vcpu, SITE);
	machine.vcpu[vcpu].requested = machine.delivery == UPCALL_VECTOR;
	machine.vcpu[vcpu].kicked = machine.vcpu[vcpu].asleep == BLOCKED;
}

/* Sleep in Xen, unless an interrupt is due: marked as blocked first, it looks then. */
void cpu_block(void)
{
	unsigned number = machine.current;
	struct vcpu *vcpu = &machine.vcpu[number];
	uint8_t in_xen = vcpu->in_xen;

	step(STEP_BLOCK, 0, 0, SITE);
	vcpu->kicked = vcpu->in_xen = 0;
	if (stepping && !deliverable(number))
		sleep_until_woken(BLOCKED);
	vcpu->in_xen = in_xen;
}

/* The harness asks for these: include/explore.h. */
void explore_handler(void (*upcall)(unsigned))
{
	upcall_handler = upcall;
}

void explore_agent(const char *name, void (*run)(unsigned long), unsigned long argument)
{
	if (stepping)
		fail(NOT_MODELLED, "who takes part is said before the first step", SITE);
	if (machine.agents == MAX_AGENTS)
		refuse("more than 12 agents", SITE);
	agent_add(name ? name : "nobody", run, argument);
}

void explore_on_vcpu(unsigned vcpu)
{
	machine.current = (uint8_t)vcpu;
}

void explore_wait(const volatile uint8_t *until)
{
	struct agent *agent = &machine.agent[machine.current];

	if (!stepping)
		return;
	if (memory_index((uint64_t)until) < 0)
		fail(OUTSIDE, "waits for what is not its memory", SITE);
	agent->state = WAITING;
	agent->until = until;
	agent->kind = STEP_WAIT;
	agent->address = (uint64_t)until;
	agent->size = 1;
	agent->order = ORDER_FULL;
	agent->site = SITE;
	memory_touch(until);
	yield();
	agent->state = READY;
}

/* Frames are numbered by their address. */
int cpu_has_frame(uint64_t number)
{
	return number < 1ul << 52 && memory_index(number << 12) >= 0 &&
	       memory_index((number << 12) + 4095) >= 0;
}

int cpu_look(int (*says)(unsigned), unsigned port)
{
	int stepped = stepping, said;

	stepping = 0;
	said = says(port);
	stepping = stepped;
	return said;
}

/* A lock of Xen's, 1 while it is free: to wait for it and to take it is one step. */
void cpu_lock(volatile uint8_t *is_free)
{
	explore_wait(is_free);
	*is_free = 0;
}

void explore_wrong(int kind, const char *what)
{
	if (stepping)
		fail((enum wrong)kind, what, SITE);
	else if (running)
		refuse(what, SITE);
}
