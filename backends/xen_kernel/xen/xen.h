/* Xen's half: what its files know of each other, and what the engine does for them. */
#ifndef XEN_H
#define XEN_H

#include "explore.h"
#include "shared_info.h"

#define PORTS 4096
#define VIRQ_TIMER 0

enum channel_state { FREE, UNBOUND, INTERDOMAIN, PIRQ, VIRQ, IPI };

struct channel {
	uint8_t state, vcpu, virq, priority;
	uint8_t queue_vcpu, queue_priority;	/* the FIFO queue it was put into last */
};

/* How events are noted: what Xen calls evtchn_port_ops. */
struct port_operations {
	void (*set_pending)(unsigned port);
	void (*clear_pending)(unsigned port);
	void (*unmask)(unsigned port);
	int (*is_pending)(unsigned port);
	int (*is_masked)(unsigned port);
};

extern struct shared_info shared_info;
extern struct channel channel[PORTS];
extern unsigned ports_end;	/* behind the last that was ever bound */
extern const struct port_operations two_level, fifo, *port_operations;

void mark_events_pending(unsigned vcpu);
void wake_pollers(unsigned port);
int is_timer(unsigned agent);
long fifo_init_control(uint64_t gfn, uint32_t offset, uint32_t vcpu);
long fifo_expand_array(uint64_t gfn);

/* cpu.c of the engine */
void cpu_enter_xen(void);
void cpu_leave_xen(void);
void cpu_kick(unsigned vcpu);
void cpu_block(void);
int cpu_has_frame(uint64_t number);	/* whether the guest has such a frame of memory */
unsigned this_vcpu(void);

/* Locked instructions, and full barriers, as Xen's are. */
static inline int test_and_set(volatile uint64_t *words, unsigned bit)
{
	return __sync_fetch_and_or(&words[bit >> 6], 1ul << (bit & 63)) >> (bit & 63) & 1;
}

static inline int test_and_clear(volatile uint64_t *words, unsigned bit)
{
	return __sync_fetch_and_and(&words[bit >> 6], ~(1ul << (bit & 63))) >> (bit & 63) & 1;
}

static inline int test(volatile uint64_t *words, unsigned bit)
{
	return __atomic_load_n(&words[bit >> 6], __ATOMIC_RELAXED) >> (bit & 63) & 1;
}

/* The answer of `says` for a port; a look does not count as a step. */
int cpu_look(int (*says)(unsigned port), unsigned port);

/* A lock of Xen's is 1 while it is free. */
void cpu_lock(volatile uint8_t *is_free);
void unlock(volatile uint8_t *is_free);

#endif
