/*
 * A run. Before each move there is a question: which of the moves that are possible now? A move is
 * an agent's step, an interrupt that a vCPU takes, or a store that leaves a buffer. Answer 0 is the
 * ordinary course: who ran last goes on. A run can be had again by its answers.
 */
#include "search.h"

#include <string.h>

static int agent_can_go(unsigned number)
{
	const struct agent *agent = &machine.agent[number];

	switch (agent->state) {
	case READY:
		return buffers_let(number);
	case WAITING:
		return *agent->until && !machine.buffered[number];
	case SLEEPING:
		return can_go(number);
	default:
		return 0;
	}
}

void question(struct question *asked)
{
	unsigned first = machine.current;

	asked->count = 0;
	asked->preempts = 0;
	for (unsigned i = 0; i < machine.agents; i++) {
		unsigned agent = (first + i) % machine.agents;

		if (agent_can_go(agent)) {
			asked->preempts |= !i;
			asked->moves[asked->count++] = (uint8_t)(MOVES * agent + GO);
		}
		if (agent < machine.vcpus && buffers_let_interrupt(agent) && deliverable(agent))
			asked->moves[asked->count++] = (uint8_t)(MOVES * agent + DELIVER);
		for (unsigned i = 0; i < machine.buffered[agent]; i++)
			if (buffers_let_leave(agent, i))
				asked->moves[asked->count++] = (uint8_t)(MOVES * agent + STORED + i);
	}
	asked->current = (uint8_t)first;
}

void move(unsigned move)
{
	unsigned agent = move / MOVES, what = move % MOVES;

	machine.take = what == DELIVER;
	if (what >= STORED)
		buffers_leave(agent, what - STORED);
	else if (machine.order)
		buffers_step(agent);
	else
		resume(agent);
	steps++;
}

/* The kernel boots, without steps; then each agent runs up to its first. */
void run_begin(void)
{
	uint8_t delivery = machine.delivery, vcpus = machine.vcpus, order = machine.order;

	memory_reset();
	memset(&machine, 0, sizeof machine);
	stacks_reset();
	machine.delivery = delivery;
	machine.vcpus = vcpus;
	machine.order = order;
	stepping = 0;
	running = 1;
	explore_setup();
	if (machine.agents < machine.vcpus)
		refuse("fewer agents than there are vCPUs: each has to be given something",
		       (uint64_t)explore_setup);
	running = 0;
	for (unsigned i = 0; i < machine.vcpus; i++)
		machine.vcpu[i] = (struct vcpu){.interrupts = 1};
	memory_booted();
	if (!explore_abi_as_asked()) {
		machine.wrong = NOT_MODELLED;
		wrong_said = "the kernel has booted, and did not ask for the FIFO ABI";
		wrong_site = 0;
	}
	stepping = 1;
	for (unsigned i = 0; i < machine.agents && !machine.wrong; i++)
		resume(i);
	machine.current = 0;
}

enum wrong run_end(const char **said)
{
	enum wrong wrong;

	stepping = 0;
	wrong = explore_end(said);
	stepping = 1;
	return wrong;
}

/* A way that is known by its moves, by its answers. */
void moves_to_answers(struct answers *way)
{
	struct question asked;

	run_begin();
	for (uint32_t i = 0; i < way->count; i++) {
		uint8_t answer = 0;

		question(&asked);
		while (asked.moves[answer] != way->answer[i])
			answer++;
		way->answer[i] = answer;
		move(asked.moves[answer]);
	}
}

#define FOR_EVER 5000

/* One run, by its answers; ordinary ones follow. */
enum ended replay(const struct answers *answers, void (*before)(const struct question *, unsigned))
{
	struct question asked;

	run_begin();
	for (uint32_t i = 0;; i++) {
		unsigned answer = i < answers->count ? answers->answer[i] : 0;

		question(&asked);
		if (machine.wrong || !asked.count)
			return COMPLETE;
		if (i > answers->count + FOR_EVER)
			return OUT_OF_TIME;
		if (answer >= asked.count)
			return OUT_OF_STATES;
		before(&asked, answer);
		move(asked.moves[answer]);
	}
}
