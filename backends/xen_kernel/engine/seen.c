/*
 * The states that were seen, by their digests: a table in 64 parts, each with a lock and room of
 * its own, so that the processes of a crew seldom meet. A state's number is the order in which it
 * was first seen.
 */
#include "search.h"

#include <string.h>

#define PARTS 64
#define FIRST 256ul	/* places in a part */

struct seen { uint64_t digest; uint32_t index; uint8_t used; };

struct part {
	uint32_t lock, count;
	uint64_t mask;
	struct seen *table;
} __attribute__((aligned(64)));

static struct table {
	struct part part[PARTS];
	uint64_t bytes;		/* of tables */
	uint64_t top;		/* of the room they are cut from */
	uint32_t count __attribute__((aligned(64)));
} *all;

static uint8_t *room;

static struct seen *cut(uint64_t places)
{
	uint64_t bytes = places * sizeof(struct seen);

	__atomic_fetch_add(&all->bytes, bytes, __ATOMIC_RELAXED);
	return (struct seen *)(room + __atomic_fetch_add(&all->top, bytes, __ATOMIC_RELAXED));
}

/* A part that has grown has left as much again behind. */
void seen_reset(void)
{
	if (!all) {
		all = common(sizeof *all);
		room = common(2 * graph_limit + 2 * PARTS * FIRST * sizeof(struct seen));
	}
	seen_forget();
	for (unsigned i = 0; i < PARTS; i++)
		all->part[i] = (struct part){.mask = FIRST - 1, .table = cut(FIRST)};
}

void seen_forget(void)
{
	common_clear(room, all->top);
	memset(all, 0, sizeof *all);
}

uint32_t seen_count(void)
{
	return __atomic_load_n(&all->count, __ATOMIC_RELAXED);
}

uint64_t seen_bytes(void)
{
	return __atomic_load_n(&all->bytes, __ATOMIC_RELAXED);
}

static struct seen *place(const struct part *in, uint64_t digest)
{
	uint64_t at = digest & in->mask;

	while (in->table[at].digest && in->table[at].digest != digest)
		at = (at + 1) & in->mask;
	return &in->table[at];
}

static void grow(struct part *part)
{
	uint64_t places = part->mask + 1;
	struct part larger = {1, part->count, 2 * places - 1, 0};

	if (!graph_has_room(2 * places * sizeof(struct seen))) {
		graph_full = 1;
		return;
	}
	larger.table = cut(2 * places);
	for (uint64_t i = 0; i < places; i++)
		if (part->table[i].digest)
			*place(&larger, part->table[i].digest) = part->table[i];
	common_clear(part->table, places * sizeof(struct seen));
	__atomic_fetch_sub(&all->bytes, places * sizeof(struct seen), __ATOMIC_RELAXED);
	part->mask = larger.mask;
	part->table = larger.table;
}

static int visit(struct part *part, uint64_t digest, uint8_t used, uint32_t *index)
{
	struct seen *seen = place(part, digest);

	if (seen->digest) {
		*index = seen->index;
		if (used >= seen->used)
			return 0;
		seen->used = used;
		return 1;
	}
	*index = __atomic_fetch_add(&all->count, 1, __ATOMIC_RELAXED);
	*seen = (struct seen){digest, *index, used};
	if (++part->count * 2ul > part->mask)
		grow(part);
	return 1;
}

static struct part *part_of(uint64_t digest)
{
	return &all->part[digest >> 58];
}

/* It is fetched from memory meanwhile. */
void seen_soon(uint64_t digest)
{
	const struct part *part = part_of(digest);

	__builtin_prefetch(&part->table[digest & part->mask], 1);
}

/* Whether what follows has to be looked at: a new state, or one reached with fewer preemptions. */
int seen_visit(uint64_t digest, uint8_t used, uint32_t *index)
{
	struct part *part = part_of(digest);
	int new;

	*index = 0;
	if (!take_lock(&part->lock))
		return 0;	/* the search has ended */
	new = visit(part, digest, used, index);
	leave_lock(&part->lock);
	return new;
}
