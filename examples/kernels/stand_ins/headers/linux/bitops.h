/* A stand-in: what the driver takes from its kernel's bit operations. */
#pragma once

static inline void set_bit(long bit, volatile unsigned long *words)
{
	__asm__ volatile("lock; btsq %1,%0" : "+m"(*words) : "r"(bit) : "memory", "cc");
}

static inline int test_and_clear_bit(long bit, volatile unsigned long *words)
{
	unsigned char was;

	__asm__ volatile("lock; btrq %2,%0; setc %1"
			 : "+m"(*words), "=q"(was) : "r"(bit) : "memory", "cc");
	return was;
}

static inline int test_bit(long bit, const volatile unsigned long *words)
{
	return words[bit / 64] >> bit % 64 & 1;
}
