/*
 * The search. Before each move there is a question: which of the moves that are possible now? A
 * move is an agent's step, an interrupt that a vCPU takes, or a store that leaves a buffer. Answer
 * 0 is the ordinary course: who ran last goes on.
 *
 *     every state      depth first; a state that was seen is not entered again. This decides loops
 *     bounded          only so many preemptions: to take the turn from somebody who could go on
 *     every schedule   without a table of states: slow, and the oracle of the other two
 *
 * What is found without a bound is looked for again with 0, 1, 2... preemptions, to be told with
 * the fewest.
 */
#include "search.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

void (*at_end)(void);
void (*live)(const struct result *, double seconds);
volatile int interrupted;

struct place {
	size_t saved;
	uint32_t state;
	uint8_t used, next;
	uint64_t enough;	/* answers, as bits */
	struct question question;
};

static struct place *path;
static uint32_t path_room;
static struct answers taken;

#define EVERY 0.1	/* seconds */

double cpu_seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

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

static int costs(const struct question *asked, unsigned answer)
{
	return answer && asked->preempts && asked->moves[answer] % MOVES < STORED;
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

/* Whether the run is over here; what went wrong, if anything. */
static int over(const struct question *asked, struct result *result, uint32_t depth)
{
	enum wrong wrong = machine.wrong;

	if (!wrong && asked->count)
		return 0;
	result->runs++;
	if (!wrong) {
		if (at_end)
			at_end();
		wrong = run_end(&wrong_said);
	}
	if (!wrong)
		return 1;
	if (!result->wrong) {
		result->wrong = wrong;
		result->said = wrong_said;
		result->site = machine.wrong ? wrong_site : 0;
		result->way.count = 0;
		for (uint32_t i = 0; i < depth; i++)
			answers_put(&result->way, i, taken.answer[i]);
	}
	return 1;
}

static struct place *place_at(uint32_t depth)
{
	if (depth >= path_room) {
		path_room = path_room ? 2 * path_room : 1024;
		path = realloc(path, path_room * sizeof *path);
	}
	return &path[depth];
}

static int enter(uint32_t depth, uint32_t state, uint8_t used, const struct question *asked,
		 int reduced)
{
	struct place *place = place_at(depth);

	place->state = state;
	place->used = used;
	place->next = 0;
	place->enough = reduced ? reduce(asked) : ~0ul;
	place->question = *asked;
	place->saved = state_save();
	return place->saved != NO_ROOM;
}

/* Now and then, how far it is. */
static void tell_progress(const struct result *result, double begun)
{
	static double told;
	double now;

	if (steps & 4095 || (now = cpu_seconds()) - told < EVERY)
		return;
	told = now;
	live(result, now - begun);
}

static int spent(const struct limits *limits, const struct result *result, double begun,
		 enum ended *ended)
{
	if (live)
		tell_progress(result, begun);
	if (interrupted)
		*ended = INTERRUPTED;
	else if (graph_full)
		*ended = OUT_OF_MEMORY;
	else if (graph_count() >= limits->states)
		*ended = OUT_OF_STATES;
	else if (!(steps & 4095) && cpu_seconds() - begun > limits->seconds)
		*ended = OUT_OF_TIME;
	else
		return 0;
	return 1;
}

/* Depth first from where the run begins. Gives how it ended. */
static enum ended explore(const struct limits *limits, struct result *result, double begun)
{
	int bounded = limits->bound >= 0;
	uint32_t depth = 0, state = 0;
	struct question asked;
	enum ended ended;

	arena_cut(0);
	question(&asked);
	graph_visit(state_digest(bounded), 0, &state);
	if (over(&asked, result, 0))
		return result->wrong ? FOUND : COMPLETE;
	if (!enter(0, state, 0, &asked, limits->reduced))
		return OUT_OF_MEMORY;
	for (;;) {
		struct place *here = &path[depth];
		unsigned answer = here->next++;
		uint8_t used;

		if (answer >= here->question.count) {
			arena_cut(here->saved);
			if (!depth--)
				return COMPLETE;
			continue;
		}
		if (limits->reduced && !(here->enough >> answer & 1))
			continue;
		used = bounded ? (uint8_t)(here->used + costs(&here->question, answer)) : 0;
		if (bounded && used > limits->bound)
			continue;
		state_load(here->saved);
		move(here->question.moves[answer]);
		answers_put(&taken, depth, (uint8_t)answer);
		if (learned_more)
			return COMPLETE;
		if (spent(limits, result, begun, &ended))
			return ended;
		question(&asked);
		if (limits->every) {
			state = 0;
		} else if (!machine.wrong) {
			int new = graph_visit(state_digest(bounded), used, &state);

			graph_edge(here->state, state, (uint8_t)answer);
			if (!new)
				continue;
		}
		if (depth + 1 > result->depth)
			result->depth = depth + 1;
		if (over(&asked, result, depth + 1)) {
			graph_end(state);
			if (result->wrong && !limits->to_the_end)
				return FOUND;
			continue;
		}
		depth++;
		if (!enter(depth, state, used, &asked, limits->reduced))
			return OUT_OF_MEMORY;
	}
}

/* From the beginning, until nothing is learned any more. */
static void explore_afresh(const struct limits *limits, struct result *result, double begun)
{
	int kept = limits->bound < 0 && !limits->every;

	learn_contexts = limits->reduced;
	do {
		result->wrong = RIGHT;
		result->runs = result->depth = 0;
		run_begin();
		graph_reset(kept);
		result->ended = explore(limits, result, begun);
	} while (learned_more && (limits->to_the_end || !result->wrong) &&
		 result->ended == COMPLETE);
	if (result->wrong)
		result->ended = FOUND;
	else if (kept && result->ended == COMPLETE && graph_stuck(&result->way)) {
		result->ended = FOUND;
		result->wrong = LIVELOCK;
		result->said = "from here on nothing ends any more, whoever runs";
	}
}

void search(const struct limits *limits, struct result *result)
{
	double begun = cpu_seconds();
	struct limits whole = *limits;

	explore_afresh(limits, result, begun);
	whole.reduced = 0;
	if (limits->reduced && result->wrong == LIVELOCK)
		explore_afresh(&whole, result, begun);
	result->states = graph_count();
	result->moves = steps;
	result->seconds = cpu_seconds() - begun;
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
