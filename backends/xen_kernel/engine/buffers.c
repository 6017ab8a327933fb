/*
 * Stores that others do not see yet. A store goes into its agent's buffer, and leaves it by a move
 * of its own; its agent sees it at once. What may leave, and what a step waits for, is the
 * processor's order:
 *
 *     x86      stores leave as they came. What is locked, a fence, and the way into Xen and out of it
 *              wait until all have left
 *     arm64    a store leaves before others, unless they touch the same bytes, a store barrier stands
 *              between the two, or it is a release. A full barrier waits for all; entering Xen and
 *              an interrupt wait for nothing. An atomic operation reads and writes in one, and what
 *              it has written is seen late as well: by a reader. No other write goes there before
 *
 * Reads are done in the order of the program, and no store before a read that precedes it.
 */
#include "engine.h"

#include <string.h>

struct buffered buffer[MAX_AGENTS][MAX_BUFFERED];

static int on_its_way;	/* what the step at hand writes, and is put into the buffer behind it */

static int overlap(const struct buffered *one, uint64_t address, uint64_t size)
{
	return one->address < address + size && address < one->address + one->size;
}

static unsigned pieces(const struct agent *doing)
{
	return (doing->size + 7) / 8;
}

static int has_room(unsigned number)
{
	const struct agent *doing = &machine.agent[number];

	/* what is larger than a buffer is seen at once */
	if (pieces(doing) > MAX_BUFFERED)
		return !machine.buffered[number];
	return machine.buffered[number] + pieces(doing) <= MAX_BUFFERED;
}

static int has_release(unsigned number)
{
	for (unsigned i = 0; i < machine.buffered[number]; i++)
		if (buffer[number][i].release)
			return 1;
	return 0;
}

/* A relaxed atomic operation waits for what its agent wrote there itself, or before a barrier: so
 * that what it writes can always be seen next. */
static int may_overtake(unsigned number)
{
	const struct agent *doing = &machine.agent[number];

	for (unsigned i = 0; i < machine.buffered[number]; i++)
		if (buffer[number][i].group != doing->group ||
		    overlap(&buffer[number][i], doing->address, doing->size))
			return 0;
	return has_room(number);
}

/* Whether another agent's atomic operation has written there, and is not seen yet. */
static int is_taken(unsigned number, uint64_t address, uint64_t size)
{
	for (unsigned other = 0; other < machine.agents; other++)
		for (unsigned i = 0; other != number && i < machine.buffered[other]; i++)
			if (buffer[other][i].exclusive && overlap(&buffer[other][i], address, size))
				return 1;
	return 0;
}

static int let_on_x86(unsigned number)
{
	switch (machine.agent[number].kind) {
	case STEP_READ: case STEP_CLI: case STEP_NONE:
		return 1;
	case STEP_WRITE:
		return has_room(number);
	default:
		return !machine.buffered[number];
	}
}

static int let_on_arm64(unsigned number)
{
	const struct agent *doing = &machine.agent[number];

	switch (doing->kind) {
	case STEP_READ:
		return doing->order != ORDER_FULL || !has_release(number);
	case STEP_WRITE:
		return has_room(number) &&
		       (pieces(doing) <= MAX_BUFFERED ||
			!is_taken(number, doing->address, doing->size));
	case STEP_LOCKED:
		if (is_taken(number, doing->address, doing->size))
			return 0;
		return doing->order == ORDER_RELAXED ? may_overtake(number)
						     : !machine.buffered[number];
	case STEP_FENCE: case STEP_RAISE: case STEP_BLOCK:
		return !machine.buffered[number];
	default:
		return 1;
	}
}

/* Whether an agent's next step may be taken, as far as stores are concerned. */
int buffers_let(unsigned agent)
{
	return machine.order == ARM64_ORDER ? let_on_arm64(agent)
	     : machine.order == X86_BUFFERS ? let_on_x86(agent) : 1;
}

/* Whether an interrupt may be taken. On x86, Xen injects it on the way back to the guest. */
int buffers_let_interrupt(unsigned agent)
{
	return machine.order != X86_BUFFERS || !machine.buffered[agent];
}

/* Whether the nth of an agent's stores may be the next to be seen. */
int buffers_let_leave(unsigned agent, unsigned nth)
{
	const struct buffered *one = &buffer[agent][nth];

	if (machine.order != ARM64_ORDER)
		return !nth;
	for (unsigned i = 0; i < nth; i++)
		if (one->release || buffer[agent][i].group != one->group ||
		    overlap(&buffer[agent][i], one->address, one->size))
			return 0;
	return one->exclusive || !is_taken(agent, one->address, one->size);
}

/* Whether the agent that runs has stores that others do not see yet. */
int buffers_hold(void)
{
	return on_its_way || machine.buffered[machine.current];
}

/* What is written from here on leaves behind all that was written before. */
void buffers_store_barrier(void)
{
	struct agent *self = &machine.agent[machine.current];
	unsigned many = machine.buffered[machine.current];

	if (on_its_way || (many && buffer[machine.current][many - 1].group == self->group))
		self->group++;
}

/* Groups are numbered from the first that is there. */
static void number_groups(unsigned agent)
{
	uint8_t first = machine.buffered[agent] ? buffer[agent][0].group
						: machine.agent[agent].group;

	for (unsigned i = 0; i < machine.buffered[agent]; i++)
		buffer[agent][i].group = (uint8_t)(buffer[agent][i].group - first);
	machine.agent[agent].group = (uint8_t)(machine.agent[agent].group - first);
}

/* The nth store is seen. */
void buffers_leave(unsigned agent, unsigned nth)
{
	struct buffered *one = &buffer[agent][nth];

	memcpy((void *)one->address, &one->value, one->size);
	machine.buffered[agent]--;
	memmove(one, one + 1, (machine.buffered[agent] - nth) * sizeof *one);
	number_groups(agent);
}

/* While their agent runs, its stores are laid over memory. */
static void overlay(unsigned agent, uint64_t *under)
{
	for (unsigned i = 0; i < machine.buffered[agent]; i++) {
		struct buffered *one = &buffer[agent][i];

		memcpy(&under[i], (void *)one->address, one->size);
		memcpy((void *)one->address, &one->value, one->size);
	}
}

static void lift(unsigned agent, unsigned many, const uint64_t *under)
{
	for (unsigned i = many; i--;)
		memcpy((void *)buffer[agent][i].address, &under[i], buffer[agent][i].size);
}

/* Whether what this step writes goes into the buffer. */
static int is_late(const struct agent *doing)
{
	if (machine.take || pieces(doing) > MAX_BUFFERED)
		return 0;
	return doing->kind == STEP_WRITE ||
	       (doing->kind == STEP_LOCKED && machine.order == ARM64_ORDER &&
		doing->order != ORDER_FULL);
}

/* An atomic operation that has changed nothing has nothing to be seen. */
static void put(unsigned agent, const struct agent *doing, unsigned at, uint64_t before,
		uint64_t *under)
{
	unsigned size = doing->size - at > 8 ? 8 : doing->size - at;
	unsigned many = machine.buffered[agent];
	struct buffered *one = &buffer[agent][many];
	uint64_t value = 0;

	memcpy(&value, (void *)(doing->address + at), size);
	if (doing->kind == STEP_LOCKED && value == before)
		return;
	*one = (struct buffered){
		.address = doing->address + at, .value = value, .size = (uint8_t)size,
		.group = doing->group, .release = doing->order != ORDER_RELAXED,
		.exclusive = doing->kind == STEP_LOCKED,
	};
	under[many] = before;
	machine.buffered[agent]++;
}

/* A step of an agent whose stores are seen late. */
void buffers_step(unsigned agent)
{
	uint64_t under[MAX_BUFFERED], before[MAX_BUFFERED] = {0};
	struct agent doing = machine.agent[agent];
	int late = is_late(&doing);

	overlay(agent, under);
	if (late)
		memcpy(before, (void *)doing.address, doing.size);
	on_its_way = late;
	resume(agent);
	on_its_way = 0;
	for (unsigned at = 0; late && !machine.wrong && at < doing.size; at += 8)
		put(agent, &doing, at, before[at / 8], under);
	lift(agent, machine.buffered[agent], under);
}
