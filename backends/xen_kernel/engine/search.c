/*
 * The search, through all answers to the questions of a run (runs.c).
 *
 *     every state      depth first; a state that was seen is not entered again. This decides loops
 *     bounded          only so many preemptions: to take the turn from somebody who could go on
 *     every schedule   without a table of states: slow, and the oracle of the other two
 *
 * What is found without a bound is looked for again with 0, 1, 2... preemptions, to be told with
 * the fewest.
 *
 * Each of them can be done by several processes (crew.c): a task is a place on the path of one of
 * them, with the moves that are left there, and the answers that lead there from the beginning.
 */
#include "search.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

void (*at_end)(void);
void (*live)(const struct result *);
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
static double began;

#define MOST_ANSWERS (64u << 10)

struct task {
	struct place place;
	uint8_t answers[MOST_ANSWERS];
};

static struct task task;

static int costs(const struct question *asked, unsigned answer)
{
	return answer && asked->preempts && asked->moves[answer] % MOVES < STORED;
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
	if (wrong)
		crew_found(wrong, wrong_said, machine.wrong ? wrong_site : 0, taken.answer, depth);
	result->wrong = wrong;
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

double cpu_seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

void search_begun(double spent)
{
	began = cpu_seconds() - spent;
}

#define EVERY 0.1	/* seconds */

/* Now and then, how far it is. */
static void tell_progress(const struct result *result)
{
	static double told;
	struct result all;

	crew_tell(result, cpu_seconds() - began);
	if (!live || crew_self || cpu_seconds() - told < EVERY)
		return;
	told = cpu_seconds();
	crew_sum(&all);
	live(&all);
}

static int spent(const struct limits *limits, const struct result *result, enum ended *ended)
{
	int now_and_then = !(steps & 4095);

	if (now_and_then)
		tell_progress(result);
	if (crew_ended() != GOING)
		*ended = crew_ended();
	else if (graph_full)
		*ended = OUT_OF_MEMORY;
	else if (seen_count() >= limits->states)
		*ended = OUT_OF_STATES;
	else if (now_and_then && cpu_seconds() - began > limits->seconds)
		*ended = OUT_OF_TIME;
	else
		return 0;
	return 1;
}

/* The next answer at a place; -1 if none is left. */
static int next_answer(struct place *place)
{
	while (place->next < place->question.count) {
		unsigned answer = place->next++;

		if (place->enough >> answer % 64 & 1)
			return (int)answer;
	}
	return -1;
}

static int is_left(const struct place *place)
{
	struct place copy = *place;

	return next_answer(&copy) >= 0;
}

/* The oldest place where something is left to do: to somebody who has nothing to do. */
static void give_task(uint32_t base, uint32_t depth)
{
	while (base < depth && !is_left(&path[base]))
		base++;
	if (base == depth || base > MOST_ANSWERS)
		return;
	task.place = path[base];
	memcpy(task.answers, taken.answer, base);
	if (crew_give(&task, offsetof(struct task, answers) + base))
		path[base].next = path[base].question.count;
}

/* Up to a place that another process has given away. A run can be had again by its answers, unless
 * a process has learned of a shared word meanwhile; another course is a fault of the engine. */
static int take_task(uint32_t *depth)
{
	size_t size = crew_take(&task, sizeof task);
	struct question asked;
	struct place *place;

	if (!size)
		return 0;
	*depth = (uint32_t)(size - offsetof(struct task, answers));
	run_begin();
	for (uint32_t i = 0; i < *depth && !learned_more; i++) {
		question(&asked);
		move(asked.moves[task.answers[i]]);
		answers_put(&taken, i, task.answers[i]);
	}
	if (learned_more) {
		crew_stop(LEARNED);
		return 0;
	}
	question(&asked);
	if (memcmp(asked.moves, task.place.question.moves, asked.count) ||
	    asked.count != task.place.question.count)
		abort();
	place = place_at(*depth);
	*place = task.place;
	arena_cut(0);
	place->saved = state_save();
	if (place->saved == NO_ROOM)
		crew_stop(OUT_OF_MEMORY);
	return place->saved != NO_ROOM;
}

/* Where all runs begin. */
static enum ended begin(const struct limits *limits, struct result *result)
{
	struct question asked;
	uint32_t state = 0;

	arena_cut(0);
	question(&asked);
	seen_visit(state_digest(limits->bound >= 0), 0, &state);
	if (over(&asked, result, 0)) {
		graph_end(state);
		return result->wrong ? FOUND : learned_more ? LEARNED : COMPLETE;
	}
	return enter(0, state, 0, &asked, limits->reduced) ? GOING : OUT_OF_MEMORY;
}

/* Depth first from a place on the path, and all that follows it. Gives how it ended. */
static enum ended explore(const struct limits *limits, struct result *result, uint32_t base)
{
	int bounded = limits->bound >= 0;
	uint32_t depth = base, state = 0;
	uint64_t digest = 0;
	struct question asked;
	enum ended ended;

	for (;;) {
		struct place *here = &path[depth];
		int answer = next_answer(here);
		uint8_t used;

		if (answer < 0) {
			arena_cut(here->saved);
			if (depth-- == base)
				return COMPLETE;
			continue;
		}
		used = bounded ? (uint8_t)(here->used + costs(&here->question, (unsigned)answer)) : 0;
		if (bounded && used > limits->bound)
			continue;
		state_load(here->saved);
		move(here->question.moves[answer]);
		answers_put(&taken, depth, (uint8_t)answer);
		if (learned_more)
			return LEARNED;
		if (spent(limits, result, &ended))
			return ended;
		if (crew_waits())
			give_task(base, depth);
		if (!limits->every && !machine.wrong)
			seen_soon(digest = state_digest(bounded));
		question(&asked);
		if (limits->every) {
			state = 0;
		} else if (!machine.wrong) {
			int new = seen_visit(digest, used, &state);

			graph_edge(here->state, state, here->question.moves[answer]);
			if (!new)
				continue;
		}
		if (depth + 1 > result->depth)
			result->depth = depth + 1;
		if (over(&asked, result, depth + 1)) {
			if (!machine.wrong)
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

/* One task after the other; the first is the beginning. */
static void explore_tasks(const struct limits *limits, struct result *result)
{
	uint32_t depth = 0;

	for (int there = !crew_self || take_task(&depth); there; there = take_task(&depth)) {
		enum ended ended = explore(limits, result, depth);

		if (ended == COMPLETE)
			crew_through();
		else
			crew_stop(ended);
	}
}

/* From the beginning, until nothing is learned any more. */
static void explore_afresh(const struct limits *limits, struct result *result)
{
	int kept = limits->bound < 0 && !limits->every;
	enum ended begun;

	learn_contexts = limits->reduced;
	do {
		result->wrong = RIGHT;
		result->runs = result->depth = 0;
		memory_learned();
		crew_begin();
		graph_reset(kept);
		run_begin();
		begun = begin(limits, result);
		if (begun == GOING) {
			crew_fork();
			explore_tasks(limits, result);
		} else {
			crew_stop(begun);
		}
		crew_tell(result, cpu_seconds() - began);
		crew_join(result);
	} while (result->ended == LEARNED && (limits->to_the_end || !result->wrong));
	if (result->wrong)
		result->ended = FOUND;
	else if (kept && result->ended == COMPLETE && graph_stuck(&result->way)) {
		moves_to_answers(&result->way);
		result->ended = FOUND;
		result->wrong = LIVELOCK;
		result->said = "from here on no run comes to an end";
	}
}

void search(const struct limits *limits, struct result *result)
{
	struct limits whole = *limits;

	search_begun(0);
	explore_afresh(limits, result);
	whole.reduced = 0;
	if (limits->reduced && result->wrong == LIVELOCK)
		explore_afresh(&whole, result);
	if (cpu_seconds() - began > result->seconds)
		result->seconds = cpu_seconds() - began;
}
