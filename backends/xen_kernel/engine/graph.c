/*
 * Which move leads from which state to which, of the states that were seen (seen.c).
 *
 * A state from which no end can be reached any more is a livelock: in whatever order
 * the agents run on, they never come to an end. It is found backwards from the ends, once all
 * states are known, by one process; the way to it is the shortest there is.
 */
#include "search.h"

#include <stdlib.h>

uint64_t graph_limit;
int graph_full;		/* there is no room for more */

static int keeping;
static uint32_t count;	/* of states, once all are known */

/* An edge in one word: 28 bits from, 28 bits to, 8 bits the move. */
static uint64_t *edges, edge_count;
static uint32_t *ends, end_count;
static struct { uint64_t edges, ends; } *counted;

void graph_reset(int kept)
{
	if (!counted) {
		counted = common(sizeof *counted);
		edges = common(graph_limit + sizeof *edges * MAX_JOBS);
		ends = common(graph_limit);
	}
	seen_reset();
	keeping = kept;
	counted->edges = counted->ends = 0;
	graph_full = 0;
}

/* The list of edges is sorted in the end. */
int graph_has_room(uint64_t bytes)
{
	uint64_t many = __atomic_load_n(&counted->edges, __ATOMIC_RELAXED);

	return seen_bytes() + many * (sizeof *edges + sizeof(uint32_t)) + bytes <= graph_limit;
}

void graph_edge(uint32_t from, uint32_t to, uint8_t move)
{
	if (!keeping)
		return;
	if (!graph_has_room(0)) {
		graph_full = 1;
		return;
	}
	edges[__atomic_fetch_add(&counted->edges, 1, __ATOMIC_RELAXED)] =
		(uint64_t)from << 36 | (uint64_t)to << 8 | move;
}

void graph_end(uint32_t state)
{
	if (keeping)
		ends[__atomic_fetch_add(&counted->ends, 1, __ATOMIC_RELAXED)] = state;
}

static uint32_t from(uint64_t edge) { return (uint32_t)(edge >> 36); }
static uint32_t to(uint64_t edge) { return (uint32_t)(edge >> 8) & 0xfffffff; }

/* Edges by the state at one of their ends: those of state s are order[first[s]] and on. */
struct by_state { uint32_t *first, *order; };

static struct by_state sorted(uint32_t (*key)(uint64_t))
{
	struct by_state by = {calloc(count + 2ul, 4), malloc(edge_count * 4 + 4)};

	for (uint64_t i = 0; i < edge_count; i++)
		by.first[key(edges[i]) + 2]++;
	for (uint32_t s = 0; s < count; s++)
		by.first[s + 1] += by.first[s];
	for (uint64_t i = 0; i < edge_count; i++)
		by.order[by.first[key(edges[i]) + 1]++] = (uint32_t)i;
	return by;
}

/* Breadth first from some states; gives by which edge each was reached, -1 where it was not. */
static int64_t *reached(const uint32_t *begin, uint32_t many, uint32_t (*key)(uint64_t),
			uint32_t (*next)(uint64_t))
{
	struct by_state by = sorted(key);
	int64_t *how = malloc((count + 1ul) * sizeof *how);
	uint32_t *queue = malloc((count + 1ul) * 4), head = 0, tail = 0;

	for (uint32_t s = 0; s < count; s++)
		how[s] = -1;
	for (uint32_t i = 0; i < many; i++)
		if (how[begin[i]] == -1) {
			how[begin[i]] = -2;
			queue[tail++] = begin[i];
		}
	while (head < tail) {
		uint32_t s = queue[head++];

		for (uint32_t i = by.first[s]; i < by.first[s + 1]; i++) {
			uint32_t other = next(edges[by.order[i]]);

			if (how[other] == -1) {
				how[other] = by.order[i];
				queue[tail++] = other;
			}
		}
	}
	free(by.first);
	free(by.order);
	free(queue);
	return how;
}

void answers_put(struct answers *answers, uint32_t at, uint8_t answer)
{
	if (at >= answers->room) {
		answers->room = at < 4096 ? 4096 : 2 * at;
		answers->answer = realloc(answers->answer, answers->room);
	}
	answers->answer[at] = answer;
	answers->count = at + 1;
}

static uint32_t first_not_reached(const int64_t *how)
{
	uint32_t s = 0;

	while (s < count && how[s] != -1)
		s++;
	return s;
}

/* To the nearest of those from which no end is reached, as moves. */
static void way_there(const int64_t *to_end, struct answers *way)
{
	uint32_t root = 0, best = 0, best_length = UINT32_MAX;
	int64_t *here = reached(&root, 1, from, to);

	for (uint32_t s = first_not_reached(to_end); s < count; s++) {
		uint32_t length = 0;

		if (to_end[s] != -1)
			continue;
		for (uint32_t at = s; here[at] >= 0 && length < best_length; length++)
			at = from(edges[here[at]]);
		if (length < best_length) {
			best = s;
			best_length = length;
		}
	}
	for (uint32_t at = best, i = best_length; here[at] >= 0; at = from(edges[here[at]]))
		answers_put(way, --i, (uint8_t)edges[here[at]]);
	way->count = best_length;
	free(here);
}

/* Whether there is a livelock; and the way there. */
int graph_stuck(struct answers *way)
{
	int64_t *to_end;
	int stuck;

	count = seen_count();
	edge_count = counted->edges;
	end_count = (uint32_t)counted->ends;
	seen_forget();	/* not needed any more; its place is */
	to_end = reached(ends, end_count, to, from);
	stuck = first_not_reached(to_end) < count;
	if (stuck)
		way_there(to_end, way);
	free(to_end);
	return stuck;
}
