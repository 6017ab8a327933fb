/* The processor's instructions that C has no words for. */
#ifndef PROBE_CPU_H
#define PROBE_CPU_H

#include <stdint.h>

static inline void barrier(void)
{
	asm volatile("" ::: "memory");
}

static inline void cli(void)
{
	asm volatile("cli" ::: "memory");
}

static inline void sti(void)
{
	asm volatile("sti" ::: "memory");
}

static inline void hlt(void)
{
	asm volatile("hlt" ::: "memory");
}

/* With no interrupt between the two: it comes before sti, or ends the hlt. */
static inline void sti_hlt(void)
{
	asm volatile("sti; hlt" ::: "memory");
}

/* What is due is taken before this is through. */
static inline void sti_nop(void)
{
	asm volatile("sti; nop" ::: "memory");
}

enum { STI = 0xfb, HLT = 0xf4 };	/* the instructions' bytes */

static inline void outb(uint16_t port, uint8_t value)
{
	asm volatile("outb %0, %1" :: "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;

	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return low | (uint64_t)high << 32;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	asm volatile("wrmsr" :: "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
		     : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) :: "memory");
	return low | (uint64_t)high << 32;
}

static inline uint64_t xchg(volatile uint64_t *word, uint64_t value)
{
	asm volatile("xchgq %0, %1" : "+r"(value), "+m"(*word) :: "memory");
	return value;
}

/* Set, clear, turn round one of the bits behind `words`, with the bus locked. */
static inline void bts(volatile uint64_t *words, unsigned int bit)
{
	asm volatile("lock btsq %1, %0"
		     : "+m"(words[bit / 64]) : "r"((uint64_t)bit % 64) : "memory");
}

static inline void btr(volatile uint64_t *words, unsigned int bit)
{
	asm volatile("lock btrq %1, %0"
		     : "+m"(words[bit / 64]) : "r"((uint64_t)bit % 64) : "memory");
}

static inline int test_bit(const volatile uint64_t *words, unsigned int bit)
{
	return words[bit / 64] >> bit % 64 & 1;
}

#endif
