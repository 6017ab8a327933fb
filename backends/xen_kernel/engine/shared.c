/*
 * A word is shared if two contexts touch it, and one of them writes. A context is an agent, or an
 * interrupt's handler on its vCPU. Which words these are is learned: a search begins with none; a
 * word that turns out to be shared is kept, and the search begins anew, until there is nothing new.
 * What concerns one context alone needs no step: the others cannot tell when it was done.
 *
 * Processes that search together (crew.c) learn together: who has touched a word is known to all of
 * them at once, and so the second of two that touch it sees that it is shared.
 */
#include "search.h"

#include <stdlib.h>

int learned_more, learn_contexts;

enum { SHARED = 1, FOUND_SHARED };	/* FOUND_SHARED: in this search, which begins anew */

static uint8_t *shared;
static uint32_t *readers, *writers;	/* of each word: a bit for each context */

void shared_init(void)
{
	readers = common(memory_words * sizeof *readers);
	writers = common(memory_words * sizeof *writers);
	shared = calloc(memory_words, 1);
}

void memory_share(uint64_t address)
{
	int word = memory_index(address);

	if (word >= 0)
		shared[word] = SHARED;
}

int memory_shared(uint32_t word)
{
	return shared[word] == SHARED;
}

static int touched_by_two(uint32_t word)
{
	uint32_t all = readers[word] | writers[word];

	return writers[word] && (all & (all - 1));
}

void memory_learned(void)
{
	for (uint32_t word = 0; word < memory_words; word++)
		if (touched_by_two(word))
			shared[word] = SHARED;
}

int learn_some(uint32_t *of, uint32_t bits)
{
	if (!(bits & ~__atomic_load_n(of, __ATOMIC_RELAXED)))
		return 0;
	return (bits & ~__atomic_fetch_or(of, bits, __ATOMIC_SEQ_CST)) != 0;
}

/* A context's bit: an agent's own, and for a vCPU that handles an interrupt another one. */
uint32_t memory_context(void)
{
	unsigned self = machine.current;
	unsigned handling = self < machine.vcpus && machine.vcpu[self].handlers;

	return 1u << (2 * self + handling);
}

/* Who runs accesses a word; whether it is shared. */
int learn_access(uint32_t word, enum kind kind)
{
	int new = 0;

	if (kind != STEP_WRITE)
		new |= learn_some(&readers[word], memory_context());
	if (kind != STEP_READ) {
		new |= learn_some(&writers[word], memory_context());
		keep_written(word);
	}
	if (!shared[word] && touched_by_two(word)) {
		shared[word] = FOUND_SHARED;
		learned_more = 1;
	}
	if (learn_contexts && shared[word] && new)
		learned_more = 1;
	return shared[word];
}

/* The contexts with whose accesses this one does not change places. */
uint32_t memory_contexts(uint64_t address, unsigned size, enum kind kind)
{
	int first = memory_index(address), last = memory_index(address + size - 1);
	uint32_t contexts = 0;

	if (first < 0 || last < 0 || size == LONG)
		return ~0u;
	for (int word = first; word <= last; word++)
		contexts |= writers[word] | (kind == STEP_READ ? 0 : readers[word]);
	return contexts;
}
