/* The hypervisor's page, as this unikernel names it, and the instructions it is used with. */
#ifndef HYPERVISOR_H
#define HYPERVISOR_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

struct vcpu { u8 upcall, mask, pad[6]; u64 selector, cr2, pad2, time[4]; };
struct page { struct vcpu vcpu[32]; u64 pending[64], masked[64]; };

extern struct page shared_info;

static inline void set_bit(u64 bit, volatile u64 *words)
{
	__asm__ volatile("lock; btsq %1,%0" : "+m"(*words) : "r"(bit) : "memory", "cc");
}

static inline void clear_bit(u64 bit, volatile u64 *words)
{
	__asm__ volatile("lock; btrq %1,%0" : "+m"(*words) : "r"(bit) : "memory", "cc");
}

static inline int test_bit(u64 bit, volatile u64 *words)
{
	return words[bit / 64] >> bit % 64 & 1;
}

static inline u64 exchange(volatile u64 *word, u64 value)
{
	__asm__ volatile("xchgq %0,%1" : "+r"(value), "+m"(*word) : : "memory");
	return value;
}

static inline long event_channel_op(u64 command, void *argument)
{
	long result;

	__asm__ volatile("call hypercall_page + 32 * 32"
			 : "=a"(result), "+D"(command), "+S"(argument)
			 : : "memory", "rcx", "rdx", "r8", "r9", "r10", "r11", "cc");
	return result;
}

#endif
