/*
 * Agents: a vCPU, a peer, a timer. Each runs on a stack of its own, up to its next step, and then
 * gives the turn to the scheduler. "About to do this" is what it says when it does; it is done when
 * the agent is resumed, together with all that other agents cannot tell, up to the next step.
 *
 * An interrupt is taken by the vCPU that is resumed, on its own stack, before the step it announced.
 */
#define _GNU_SOURCE
#include "engine.h"

#include <string.h>
#include <sys/mman.h>

struct machine machine;
const char *agent_name[MAX_AGENTS];
const char *wrong_said;
uint64_t wrong_site;
int stepping;
uint64_t steps;
volatile int running;
void *scheduler_stack_pointer;

static uint8_t *stacks;
static struct { void (*run)(unsigned long); unsigned long argument; } beginning[MAX_AGENTS];

#define GUARD 65536
#define STACKS 0x100000000000	/* the same in each process, and far from the heap and libraries */

/* Save the registers that a call keeps, and this stack; go on where that one was left, with nothing
 * of this side's in the others: what is not needed is the same in each state. */
void switch_stack(void **save, void *load);
__asm__(".text\n"
	".globl engine_begins\n"
	"engine_begins:\n"
	"switch_stack:\n"
	"	push %rbp\n	push %rbx\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
	"	mov %rsp,(%rdi)\n"
	"	mov %rsi,%rsp\n"
	"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbx\n	pop %rbp\n"
	"	xor %eax,%eax\n	xor %ecx,%ecx\n	xor %edx,%edx\n	xor %esi,%esi\n"
	"	xor %edi,%edi\n	xor %r8d,%r8d\n	xor %r9d,%r9d\n	xor %r10d,%r10d\n	xor %r11d,%r11d\n"
	"	ret\n"
	"agent_begin:\n"
	"	xor %ebp,%ebp\n"
	"	call agent_run\n"
	"	ud2\n");
void agent_begin(void);

void agent_run(void)
{
	unsigned self = machine.current;

	beginning[self].run(beginning[self].argument);
	if (self < machine.vcpus)
		upcall_counts();
	machine.agent[self].state = DONE;
	machine.agent[self].kind = STEP_NONE;
	machine.agent[self].address = machine.agent[self].site = 0;
	machine.agent[self].size = machine.agent[self].order = 0;
	for (;;)
		yield();
}

uint8_t *stack_base(unsigned agent)
{
	return stacks + (size_t)(agent + 1) * (GUARD + STACK);
}

/* Empty stacks, each above a page without access, so that an overrun is found out. */
void stacks_reset(void)
{
	size_t each = GUARD + STACK;

	if (!stacks) {
		stacks = mmap((void *)STACKS, MAX_AGENTS * each, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		for (unsigned i = 0; i < MAX_AGENTS; i++)
			mprotect(stacks + i * each + GUARD, STACK, PROT_READ | PROT_WRITE);
	}
	for (unsigned i = 0; i < MAX_AGENTS; i++)
		memset(stacks + i * each + GUARD, 0, STACK);
}

void agent_add(const char *name, void (*run)(unsigned long), unsigned long argument)
{
	unsigned self = machine.agents++;	/* there is room: explore_agent */
	void **top = (void **)(stack_base(self) - 16);

	beginning[self].run = run;
	beginning[self].argument = argument;
	agent_name[self] = name;
	*--top = 0;
	*--top = (void *)agent_begin;
	top -= 6;
	machine.agent[self] = (struct agent){.stack_pointer = top, .kind = STEP_NONE};
}

#define CLEARED 2048	/* bytes: more than a step uses, if it calls nothing deep */

/* What calls have left below the stack that is in use gets into frames that are made later. */
static void clear_below(unsigned agent)
{
	uint8_t *used = machine.agent[agent].stack_pointer, *end = stack_base(agent) - STACK;

	if (used - end > CLEARED)
		end = used - CLEARED;
	memset(end, 0, (size_t)(used - end));
}

void resume(unsigned agent)
{
	machine.current = (uint8_t)agent;
	running = 1;
	clear_below(agent);
	switch_stack(&scheduler_stack_pointer, machine.agent[agent].stack_pointer);
	running = 0;
}

void yield(void)
{
	switch_stack(&machine.agent[machine.current].stack_pointer, scheduler_stack_pointer);
}

void step_in_order(enum kind kind, enum order order, uint64_t address, unsigned size, uint64_t site)
{
	struct agent *self = &machine.agent[machine.current];

	if (!stepping)
		return;
	do {
		self->kind = kind;
		self->address = address;
		self->size = (uint8_t)size;
		self->order = order;
		self->site = site;
		yield();
		if (!machine.take)
			break;
		take_interrupt();
	} while (1);
}

void step(enum kind kind, uint64_t address, unsigned size, uint64_t site)
{
	step_in_order(kind, ORDER_FULL, address, size, site);
}

void fence(uint64_t site)
{
	if (buffers_hold())
		step(STEP_FENCE, 0, 0, site);
}

/* The run at hand ends here. */
void abandoned(void)
{
	void *nowhere;

	for (;;)
		switch_stack(&nowhere, scheduler_stack_pointer);
}

void fail(enum wrong wrong, const char *said, uint64_t site)
{
	machine.wrong = wrong;
	wrong_said = said;
	wrong_site = site;
	abandoned();
}
