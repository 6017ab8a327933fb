/*
 * A state: the words that were ever written, the machine, the stores in buffers, and of each stack
 * the part that is in use. One or two kilobytes, so that it can be copied and put back.
 *
 * Copies lie one behind another in an arena, since the search needs those on its path alone. States
 * are told apart by digests of 64 bits.
 */
#include "engine.h"

#include <string.h>
#include <sys/mman.h>

uint64_t arena_limit;

static uint8_t *arena;
static size_t top;

static size_t machine_size(void)
{
	return offsetof(struct machine, agent) + machine.agents * sizeof(struct agent);
}

static size_t used(unsigned agent)
{
	if (machine.agent[agent].state == DONE)
		return 0;
	return (size_t)(stack_base(agent) - (uint8_t *)machine.agent[agent].stack_pointer);
}

static size_t size_now(void)
{
	size_t size = 8 + written_count * 8ul + sizeof machine;

	for (unsigned i = 0; i < machine.agents; i++)
		size += used(i);
	return size + (machine.order ? sizeof buffer : 0);
}

static uint8_t *put(uint8_t *to, const void *from, size_t size)
{
	memcpy(to, from, size);
	return to + size;
}

static const uint8_t *get(void *to, const uint8_t *from, size_t size)
{
	memcpy(to, from, size);
	return from + size;
}

size_t state_save(void)
{
	size_t at = top, size = size_now();
	uint64_t count = written_count;
	uint8_t *to;

	if (!arena)
		arena = mmap(0, arena_limit, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (arena == MAP_FAILED || at + size > arena_limit)
		return NO_ROOM;
	to = put(arena + at, &count, 8);
	for (uint32_t i = 0; i < written_count; i++)
		to = put(to, &memory[written[i]], 8);
	to = put(to, &machine, machine_size());
	for (unsigned i = 0; i < machine.agents; i++)
		to = put(to, machine.agent[i].stack_pointer, used(i));
	if (machine.order)
		to = put(to, buffer, sizeof buffer);
	top = (size_t)(to - arena);
	return at;
}

void state_load(size_t at)
{
	uint64_t count;
	const uint8_t *from = get(&count, arena + at, 8);

	for (uint64_t i = 0; i < count; i++)
		from = get(&memory[written[i]], from, 8);
	for (uint32_t i = (uint32_t)count; i < written_count; i++)
		memory[written[i]] = booted[written[i]];
	from = get(&machine, from, machine_size());
	for (unsigned i = 0; i < machine.agents; i++)
		from = get(machine.agent[i].stack_pointer, from, used(i));
	if (machine.order)
		get(buffer, from, sizeof buffer);
}

void arena_cut(size_t at)
{
	top = at;
}

static inline uint64_t mix(uint64_t sum, uint64_t value)
{
	sum = (sum ^ value) * 0x9e3779b97f4a7c15ul;
	return sum ^ sum >> 29;
}

/* In four sums, which a processor works out at the same time. */
static uint64_t mixed(uint64_t sum, const void *from, size_t size)
{
	const uint64_t *words = from, *end = words + size / 8;
	uint64_t second = 2, third = 3, fourth = 4;

	for (; end - words >= 4; words += 4) {
		sum = mix(sum, words[0]);
		second = mix(second, words[1]);
		third = mix(third, words[2]);
		fourth = mix(fourth, words[3]);
	}
	while (words < end)
		sum = mix(sum, *words++);
	return mix(mix(mix(sum, second), third), fourth);
}

static inline uint64_t spread(uint64_t value)
{
	value = (value ^ value >> 31) * 0xff51afd7ed558ccdul;
	value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53ul;
	return value ^ value >> 32;
}

/* Of the words that are not as they were at boot, whatever the order in which they were written. */
uint64_t memory_digest(void)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < written_count; i++) {
		uint32_t word = written[i];

		if (memory[word] != booted[word])
			sum += spread(mix(mix(7, word), memory[word]));
	}
	return sum;
}

/* Never 0. Who ran last is a part of it only where that decides what may follow. */
uint64_t state_digest(int with_current)
{
	uint8_t current = machine.current;
	uint64_t sum = memory_digest();

	if (!with_current)
		machine.current = 0;
	sum = mixed(mix(7, sum), &machine, machine_size());
	machine.current = current;
	for (unsigned i = 0; i < machine.agents; i++)
		sum = mixed(sum, machine.agent[i].stack_pointer, used(i));
	for (unsigned i = 0; machine.order && i < machine.agents; i++)
		sum = mixed(sum, buffer[i], machine.buffered[i] * sizeof **buffer);
	sum = spread(sum);
	return sum ? sum : 1;
}
