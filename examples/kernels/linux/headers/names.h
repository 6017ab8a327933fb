/*
 * The names that Linux's events_2l.c and events_fifo.c take from the kernel, as stand-ins. What
 * they do in a kernel on x86 is done here with the compiler's atomics, which the engine sees.
 * Numbers and layouts are Xen's: public/event_channel.h.
 */
#ifndef NAMES_H
#define NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "explore.h"
#include "shared_info.h"

#define CPUS 4
#define BITS_PER_LONG 64
#define KBUILD_MODNAME "events"
#define __init
#define __read_mostly
#define likely(what) (what)
#define unlikely(what) (what)
#define ARRAY_SIZE(list) (sizeof(list) / sizeof *(list))
#define EINVAL 22
#define ENOMEM 12

#define BUG_ON(what) do { if (what) __builtin_trap(); } while (0)
#define panic(...) __builtin_trap()
#define pr_info(...) ((void)0)
#define pr_warn(...) ((void)0)
#define pr_err(...) ((void)0)
#define printk(...) ((void)0)
#define PRI_xen_ulong "lx"

extern struct shared_info shared_info;
#define HYPERVISOR_shared_info (&shared_info)

void *memset(void *start, int byte, size_t bytes);

/* Processors, and what each has for itself. */
unsigned this_vcpu(void);
#define smp_processor_id() this_vcpu()
#define get_cpu() this_vcpu()
#define put_cpu() ((void)0)
#define xen_vcpu_nr(cpu) (cpu)
#define cpu_online(cpu) ((cpu) < explore_vcpus)
#define for_each_online_cpu(cpu) for ((cpu) = 0; (unsigned)(cpu) < explore_vcpus; (cpu)++)
#define for_each_possible_cpu(cpu) for_each_online_cpu(cpu)
#define DEFINE_PER_CPU(type, name) __typeof__(type) name[CPUS]
#define DECLARE_PER_CPU(type, name) extern __typeof__(type) name[CPUS]
#define per_cpu(name, cpu) ((name)[cpu])
#define __this_cpu_read(name) ((name)[this_vcpu()])
#define __this_cpu_write(name, value) ((name)[this_vcpu()] = (value))

static inline bool irqs_disabled(void)
{
	unsigned long flags;

	if (delivery == PV_UPCALL)
		return shared_info.vcpu_info[this_vcpu()].evtchn_upcall_mask;
	__asm__ volatile("pushfq; popq %0" : "=r"(flags) : : "memory");
	return !(flags & 0x200);
}

typedef int irqreturn_t;
#define IRQ_HANDLED 1
#define DEFINE_SPINLOCK(name) int name
#define spin_lock_irqsave(lock, flags) ((void)(lock), (flags) = 0)
#define spin_unlock_irqrestore(lock, flags) ((void)(lock), (void)(flags))
#define get_irq_regs() NULL
#define xen_irqs_disabled(registers) 0
static inline void generic_handle_irq(int irq) { (void)irq; }

/* Barriers: x86 needs none between stores, nor between loads. */
#define barrier() __asm__ volatile("" : : : "memory")
#define smp_wmb() barrier()
#define virt_rmb() barrier()

/* Bits. `sync_` is locked on one processor too; the others are on every machine that has several. */
#ifdef NO_LOCK	/* a fault, planted: what if these were not locked? */
static inline void linux_set_bit(unsigned long bit, volatile unsigned long *words)
{
	unsigned long before = words[bit / 64];

	words[bit / 64] = before | 1ul << bit % 64;
}

static inline void linux_clear_bit(unsigned long bit, volatile unsigned long *words)
{
	unsigned long before = words[bit / 64];

	words[bit / 64] = before & ~(1ul << bit % 64);
}
#else
static inline void linux_set_bit(unsigned long bit, volatile unsigned long *words)
{
	__atomic_fetch_or(&words[bit / 64], 1ul << bit % 64, __ATOMIC_SEQ_CST);
}

static inline void linux_clear_bit(unsigned long bit, volatile unsigned long *words)
{
	__atomic_fetch_and(&words[bit / 64], ~(1ul << bit % 64), __ATOMIC_SEQ_CST);
}
#endif

static inline int sync_test_and_set_bit(unsigned long bit, volatile unsigned long *words)
{
	return __atomic_fetch_or(&words[bit / 64], 1ul << bit % 64, __ATOMIC_SEQ_CST) >> bit % 64 & 1;
}

#define set_bit linux_set_bit		/* lower_half.h has its own */
#define clear_bit linux_clear_bit
#define sync_set_bit linux_set_bit
#define sync_clear_bit linux_clear_bit
#define sync_test_bit(bit, words) \
	(((volatile unsigned long *)(words))[(bit) / 64] >> (bit) % 64 & 1)
#define sync_cmpxchg(at, old, new) __sync_val_compare_and_swap(at, old, new)
#define xchg(at, value) __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST)
#define xchg_xen_ulong(at, value) xchg(at, value)

static inline unsigned long find_first_bit(const unsigned long *words, unsigned long many)
{
	return *words ? (unsigned long)__builtin_ctzl(*words) : many;
}

/* Memory. */
#define XEN_PAGE_SIZE 4096
#define GFP_KERNEL 0
unsigned long __get_free_page(int flags);
void free_page(unsigned long page);
#define clear_page(page) __builtin_memset(page, 0, XEN_PAGE_SIZE)
#define virt_to_gfn(page) ((uint64_t)(page) >> 12)

/* Xen's interface. */
typedef uint64_t xen_ulong_t;
typedef uint32_t evtchn_port_t, event_word_t;
#define VIRQ_TIMER 0
#define EVTCHN_2L_NR_CHANNELS 4096
#define EVTCHN_FIFO_PENDING 31
#define EVTCHN_FIFO_MASKED 30
#define EVTCHN_FIFO_LINKED 29
#define EVTCHN_FIFO_BUSY 28
#define EVTCHN_FIFO_LINK_MASK ((1 << 17) - 1)
#define EVTCHN_FIFO_MAX_QUEUES 16
#define EVTCHN_FIFO_NR_CHANNELS (1 << 17)

struct evtchn_unmask { evtchn_port_t port; };
struct evtchn_expand_array { uint64_t array_gfn; };
struct evtchn_init_control {
	uint64_t control_gfn;
	uint32_t offset, vcpu;
	uint8_t link_bits, pad[7];
};
struct evtchn_fifo_control_block {
	volatile uint32_t ready;
	uint32_t reserved;
	volatile uint32_t head[EVTCHN_FIFO_MAX_QUEUES];
};

#define EVTCHNOP_unmask 9
#define EVTCHNOP_init_control 11
#define EVTCHNOP_expand_array 12
int HYPERVISOR_event_channel_op(int operation, void *argument);

/* What events_base.c has for the two. */
DECLARE_PER_CPU(struct vcpu_info *, xen_vcpu);
#define xen_hvm_domain() (delivery != PV_UPCALL)
#define irq_from_evtchn(port) (port)
int irq_evtchn_from_virq(unsigned cpu, unsigned virq, evtchn_port_t *port);

#endif
