/*
 * Memory. The compiler announces each access of the kernel, the harness and Xen's half by a call
 * (__tsan_*: -fsanitize=thread, the hooks our own). Memory is seen in words of eight bytes.
 * An access is a step if its word is shared (shared.c).
 */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

extern uint8_t __start_kernel_data[], __stop_kernel_data[];
extern uint8_t __executable_start[], edata[], end[];

uint64_t *memory, *booted;
uint32_t memory_words, *written, written_count;
uint64_t last_access;

static uint8_t *is_written;
static uint64_t *pristine;

void memory_init(void)
{
	memory = (uint64_t *)__start_kernel_data;
	memory_words = (uint32_t)((__stop_kernel_data - __start_kernel_data + 7) / 8);
	shared_init();
	is_written = calloc(memory_words, 1);
	written = calloc(memory_words, sizeof *written);
	booted = calloc(memory_words, 8);
	pristine = malloc(memory_words * 8ul);
}

void memory_keep(void)
{
	memcpy(pristine, memory, memory_words * 8ul);
}

void memory_reset(void)
{
	memcpy(memory, pristine, memory_words * 8ul);
}

void memory_booted(void)
{
	memcpy(booted, memory, memory_words * 8ul);
	learned_more = 0;
}

int memory_index(uint64_t address)
{
	uint64_t offset = address - (uint64_t)memory;

	return offset < memory_words * 8ul ? (int)(offset >> 3) : -1;
}

void keep_written(uint32_t word)
{
	if (!is_written[word]) {
		is_written[word] = 1;
		written[written_count++] = word;
	}
}

void memory_wrote(void *address)
{
	int word = memory_index((uint64_t)address);

	if (word >= 0 && stepping)
		memory_written((uint32_t)word);
}

/* The engine reads and writes there on behalf of who runs, as a part of a step of its own kind. */
void memory_touch(const volatile void *address)
{
	int word = memory_index((uint64_t)address);

	if (word >= 0 && stepping)
		learn((uint32_t)word, STEP_LOCKED);
}

static int own_stack(uint64_t address)
{
	uint64_t base = (uint64_t)stack_base(machine.current);

	return address < base && address >= base - STACK;
}

static int readable(uint64_t address)
{
	return address >= (uint64_t)__executable_start && address < (uint64_t)__start_kernel_data;
}

#define APIC 0xfee00000
#define APIC_EOI 0xb0

static void elsewhere(enum kind kind, uint64_t address, uint64_t site)
{
	if (address >> 12 == APIC >> 12) {
		if ((address & 0xfff) == APIC_EOI && kind != STEP_READ)
			machine.vcpu[machine.current].in_service = 0;
		return;
	}
	if (kind == STEP_READ && readable(address))
		return;
	fail(OUTSIDE, kind == STEP_READ ? "reads what is not its memory"
					: "writes into what is not its memory", site);
}

/* A step, if the word is shared. Whether it was one. */
static int access_in_order(enum kind kind, enum order order, uint64_t address, unsigned long size,
			   uint64_t site)
{
	int first = memory_index(address), last, is_shared = 0;

	last_access = site;
	if (!stepping || own_stack(address))
		return 0;
	last = memory_index(address + size - 1);
	if (first < 0 || last < 0) {
		elsewhere(kind, address, site);
		return 0;
	}
	for (int word = first; word <= last; word++)
		is_shared |= learn((uint32_t)word, kind);
	if (is_shared)
		step_in_order(kind, order, address, size > LONG ? LONG : (unsigned)size, site);
	machine.agent[machine.current].whole = 0;
	return is_shared;
}

static void access_memory(enum kind kind, uint64_t address, unsigned long size, uint64_t site)
{
	access_in_order(kind, kind == STEP_LOCKED ? ORDER_FULL : ORDER_RELAXED, address, size, site);
}

/* The first half of one instruction that reads, changes and writes: on x86, its own processor takes
 * no interrupt before the second. On arm64 these are instructions of their own. */
static void access_first_half(uint64_t address, unsigned long size, uint64_t site)
{
	struct agent *self = &machine.agent[machine.current];

	self->first_half = stepping && machine.order != ARM64_ORDER;
	if (access_in_order(STEP_READ, ORDER_RELAXED, address, size, site))
		self->whole = self->first_half;
	self->first_half = 0;
}

#define SITE ((uint64_t)__builtin_return_address(0) - 1)

/* What gcc calls before a plain access of so many bytes. */
#define PLAIN(size) \
	void __tsan_read##size(void *at) { access_memory(STEP_READ, (uint64_t)at, size, SITE); } \
	void __tsan_write##size(void *at) { access_memory(STEP_WRITE, (uint64_t)at, size, SITE); } \
	void __tsan_unaligned_read##size(void *at) \
	{ access_memory(STEP_READ, (uint64_t)at, size, SITE); } \
	void __tsan_unaligned_write##size(void *at) \
	{ access_memory(STEP_WRITE, (uint64_t)at, size, SITE); }
PLAIN(1) PLAIN(2) PLAIN(4) PLAIN(8) PLAIN(16)

/* The read of a change that gcc makes in one instruction where it is not watched (assembly.py). */
#define FIRST_HALF(size) \
	void engine_first_half##size(void *at) { access_first_half((uint64_t)at, size, SITE); }
FIRST_HALF(1) FIRST_HALF(2) FIRST_HALF(4) FIRST_HALF(8)

void __tsan_read_range(void *at, unsigned long size)
{
	if (size)
		access_memory(STEP_READ, (uint64_t)at, size, SITE);
}

void __tsan_write_range(void *at, unsigned long size)
{
	if (size)
		access_memory(STEP_WRITE, (uint64_t)at, size, SITE);
}

static int is_release(int order)
{
	return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

static enum order order_of(int order)
{
	return is_release(order) ? ORDER_RELEASE : ORDER_RELAXED;
}

void __tsan_init(void) {}
void __tsan_func_entry(void *caller) { (void)caller; }
void __tsan_func_exit(void) {}

void __tsan_atomic_thread_fence(int order)
{
	/* what gcc makes of it: mfence, or nothing; dmb ish, or dmb ishld */
	if (order == __ATOMIC_SEQ_CST || (machine.order == ARM64_ORDER && is_release(order)))
		fence(SITE);
}

void __tsan_atomic_signal_fence(int order) { (void)order; }

/* A store is as others are, unless it is the strongest: that one is a locked xchg on x86. */
static enum kind store_kind(int order)
{
	return order == __ATOMIC_SEQ_CST && machine.order != ARM64_ORDER ? STEP_LOCKED : STEP_WRITE;
}

/* What gcc calls in place of an atomic operation: announce it, and do it. */
#define CHANGE(bits, type, name, result) \
	type __tsan_atomic##bits##_##name(volatile type *at, type value, int order) \
	{ \
		access_in_order(STEP_LOCKED, order_of(order), (uint64_t)at, bits / 8, SITE); \
		type old = *at; \
		*at = (type)(result); \
		return old; \
	}
#define COMPARE(bits, type, strength) \
	int __tsan_atomic##bits##_compare_exchange_##strength(volatile type *at, type *expected, \
							  type value, int order, int otherwise) \
	{ \
		(void)otherwise; \
		access_memory(STEP_READ, (uint64_t)expected, bits / 8, SITE); \
		type wanted = *expected; \
		access_in_order(STEP_LOCKED, order_of(order), (uint64_t)at, bits / 8, SITE); \
		type old = *at; \
		if (old == wanted) { \
			*at = value; \
			return 1; \
		} \
		access_memory(STEP_WRITE, (uint64_t)expected, bits / 8, SITE); \
		*expected = old; \
		return 0; \
	}

#define ATOMIC(bits, type) \
	type __tsan_atomic##bits##_load(const volatile type *at, int order) \
	{ \
		access_in_order(STEP_READ, order == __ATOMIC_SEQ_CST ? ORDER_FULL : ORDER_RELAXED, \
				(uint64_t)at, bits / 8, SITE); \
		return *at; \
	} \
	void __tsan_atomic##bits##_store(volatile type *at, type value, int order) \
	{ \
		access_in_order(store_kind(order), order_of(order), (uint64_t)at, bits / 8, SITE); \
		*at = value; \
	} \
	CHANGE(bits, type, exchange, value) \
	CHANGE(bits, type, fetch_add, old + value) \
	CHANGE(bits, type, fetch_sub, old - value) \
	CHANGE(bits, type, fetch_or, old | value) \
	CHANGE(bits, type, fetch_and, old & value) \
	CHANGE(bits, type, fetch_xor, old ^ value) \
	CHANGE(bits, type, fetch_nand, ~(old & value)) \
	COMPARE(bits, type, strong) \
	COMPARE(bits, type, weak)
ATOMIC(8, uint8_t) ATOMIC(16, uint16_t) ATOMIC(32, uint32_t) ATOMIC(64, uint64_t)

#define AT_ONCE 512	/* bytes of a copy */

/* What the compiler makes of copies and of large assignments. It is the memory's at the time when it
 * is read, and not when it is written. */
static void copy(uint8_t *to, const uint8_t *from, size_t size, uint64_t site)
{
	uint64_t between[(size + 7) / 8];

	access_memory(STEP_READ, (uint64_t)from, size, site);
	between[(size - 1) / 8] = 0;
	memcpy(between, from, size);
	access_memory(STEP_WRITE, (uint64_t)to, size, site);
	memcpy(to, between, size);
}

/* A word after the other, where stores are seen one by one. */
static size_t piece(size_t size)
{
	size_t most = machine.order ? 8 : AT_ONCE;

	return size > most ? most : size;
}

void *engine_memset(void *to, int value, size_t size)
{
	for (size_t at = 0, now; at < size; at += now) {
		now = machine.order ? piece(size - at) : size;
		access_memory(STEP_WRITE, (uint64_t)to + at, now, SITE);
		memset((uint8_t *)to + at, value, now);
	}
	return to;
}

static void copy_pieces(uint8_t *to, const uint8_t *from, size_t size, uint64_t site)
{
	for (size_t at = 0, now; at < size; at += now) {
		now = piece(size - at);
		copy(to + at, from + at, now, site);
	}
}

static void copy_from_the_end(uint8_t *to, const uint8_t *from, size_t size, uint64_t site)
{
	for (size_t left = size, now; left; left -= now) {
		now = piece(left);
		copy(to + left - now, from + left - now, now, site);
	}
}

void *engine_memcpy(void *to, const void *from, size_t size)
{
	copy_pieces(to, from, size, SITE);
	return to;
}

void *engine_memmove(void *to, const void *from, size_t size)
{
	(to > from ? copy_from_the_end : copy_pieces)(to, from, size, SITE);
	return to;
}

int engine_memcmp(const void *one, const void *other, size_t size)
{
	if (size) {
		access_memory(STEP_READ, (uint64_t)one, size, SITE);
		access_memory(STEP_READ, (uint64_t)other, size, SITE);
	}
	return memcmp(one, other, size);
}

#define CHANGE 3	/* assembly.py: one instruction reads, changes and writes, and is not locked */

/* What was read is put in its place again, so that the instruction goes by it. */
static void change(uint64_t address, unsigned long size, uint64_t site)
{
	uint64_t read = 0;

	access_first_half(address, size, site);
	memcpy(&read, (void *)address, size);
	access_memory(STEP_WRITE, address, size, site);
	memcpy((void *)address, &read, size);
}

/* An instruction of inline assembly is about to access memory (assembly.py). */
void engine_assembly(uint64_t kind, uint64_t address, int64_t bit, uint64_t size, uint64_t site)
{
	address += (uint64_t)((bit >> 3) / (int64_t)size * (int64_t)size);
	if (kind == CHANGE)
		change(address, size, site - 1);
	else
		access_memory((enum kind)kind, address, size, site - 1);
}
