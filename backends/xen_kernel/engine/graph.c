/*
 * The states that were seen, by their digests, and which move leads from one to another.
 *
 * A state from which no end can be reached any more is a livelock: whoever runs, for however long,
 * nobody is through. It is found backwards from the ends, once all states are known; the way to it
 * is the shortest there is.
 */
#include "search.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct seen { uint64_t digest; uint32_t index; uint8_t used; };

static struct seen *table;
static uint64_t mask;
static uint32_t count;
static int keeping;
uint64_t graph_limit;
int graph_full;		/* there is no room for more */

/* An edge in one word: 28 bits from, 28 bits to, 8 bits answer. */
static uint64_t *edges, edge_count;
static uint32_t *ends, end_count, end_room;

void graph_reset(int kept)
{
	free(table);
	mask = (1u << 14) - 1;
	table = calloc(mask + 1, sizeof *table);
	count = 0;
	keeping = kept;
	edge_count = end_count = 0;
	graph_full = 0;
}

uint32_t graph_count(void)
{
	return count;
}

static struct seen *place(struct seen *in, uint64_t digest)
{
	uint64_t at = digest & mask;

	while (in[at].digest && in[at].digest != digest)
		at = (at + 1) & mask;
	return &in[at];
}

/* The list of edges is sorted in the end. */
static uint64_t bytes(void)
{
	return (mask + 1) * sizeof *table + edge_count * (sizeof *edges + sizeof(uint32_t));
}

static void grow(void)
{
	uint64_t before = mask;
	struct seen *larger = 0;

	if (bytes() + 2 * (mask + 1) * sizeof *table <= graph_limit)
		larger = calloc(2 * (mask + 1), sizeof *table);
	if (!larger) {
		graph_full = 1;
		return;
	}
	mask = 2 * mask + 1;
	for (uint64_t i = 0; i <= before; i++)
		if (table[i].digest)
			*place(larger, table[i].digest) = table[i];
	free(table);
	table = larger;
}

/* Whether what follows has to be looked at: a new state, or one reached with fewer preemptions. */
int graph_visit(uint64_t digest, uint8_t used, uint32_t *index)
{
	struct seen *seen = place(table, digest);

	if (seen->digest) {
		*index = seen->index;
		if (used >= seen->used)
			return 0;
		seen->used = used;
		return 1;
	}
	*seen = (struct seen){digest, count, used};
	*index = count++;
	if (count * 2ul > mask)
		grow();
	return 1;
}

static void *room(void *list, uint64_t used, uint64_t *have, size_t each)
{
	if (used < *have)
		return list;
	*have = *have ? 2 * *have : 4096;
	return realloc(list, *have * each);
}

void graph_edge(uint32_t from, uint32_t to, uint8_t answer)
{
	if (!keeping)
		return;
	if (!edges)
		edges = mmap(0, graph_limit, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (edges == MAP_FAILED || bytes() > graph_limit) {
		graph_full = 1;
		return;
	}
	edges[edge_count++] = (uint64_t)from << 36 | (uint64_t)to << 8 | answer;
}

void graph_end(uint32_t state)
{
	uint64_t have = end_room;

	if (!keeping)
		return;
	ends = room(ends, end_count, &have, sizeof *ends);
	end_room = (uint32_t)have;
	ends[end_count++] = state;
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
	uint64_t have = answers->room;

	while (at >= have)
		answers->answer = room(answers->answer, have, &have, 1);
	answers->room = (uint32_t)have;
	answers->answer[at] = answer;
	answers->count = at + 1;
}

int graph_stuck(struct answers *way)
{
	uint32_t root = 0, best = UINT32_MAX, best_length = UINT32_MAX;

	int64_t *to_end, *here;

	free(table);	/* not needed any more; its place is */
	table = 0;
	to_end = reached(ends, end_count, to, from);
	here = reached(&root, 1, from, to);

	for (uint32_t s = 0; s < count; s++) {
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
	if (best != UINT32_MAX && best_length) {
		for (uint32_t at = best, i = best_length; here[at] >= 0; at = from(edges[here[at]]))
			answers_put(way, --i, (uint8_t)edges[here[at]]);
		way->count = best_length;
	}
	free(to_end);
	free(here);
	return best != UINT32_MAX;
}
