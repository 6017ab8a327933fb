/*
 * The contract of a lower half in C: what it gives, and what it is given. The same files run in the
 * engine and on a real Xen.
 *
 *     start(vcpu)          once for each vCPU, in order: register what the ABI needs
 *     upcall(vcpu)         the handler, with upcalls disabled
 *     demux(vcpu)          take what fired; nothing to do where the handler does
 *     bound(port, vcpu)    a port came; it is masked still
 *     mask, unmask(port)   hold it back; let it fire again, at once if it has become pending
 *     block(vcpu, timed)   sleep until an event, or a timer if timed, and lose no wake-up
 */
#ifndef LOWER_HALF_H
#define LOWER_HALF_H

#include <stdint.h>

#include "shared_info.h"

#ifndef FAULT
#define FAULT 0		/* which fault is planted; each file says which it has */
#endif

enum { BY_UPCALL_VECTOR = 1, BY_CALLBACK_VECTOR = 2, BY_PV_UPCALL = 3 };

/* Given. */
extern struct shared_info shared_info;
extern unsigned delivery;			/* one of those above */
void event(unsigned vcpu, unsigned port);	/* this port fired; its waiters run later */
int work(unsigned vcpu);			/* whether any are to run: asked with upcalls disabled */
void eoi(void);					/* of the local APIC */

/* Gives. */
extern const int lower_half_takes_in_handler;
void lower_half_start(unsigned vcpu);
void lower_half_upcall(unsigned vcpu);
void lower_half_demux(unsigned vcpu);
void lower_half_bound(unsigned port, unsigned vcpu);
void lower_half_mask(unsigned port);
void lower_half_unmask(unsigned port);
void lower_half_block(unsigned vcpu, int timed);

/* Hypercalls: through the page that Xen fills, or the engine. */
enum {
	SET_TIMER_OP = 15, XEN_VERSION = 17, VCPU_OP = 24, SCHED_OP = 29, EVENT_CHANNEL_OP = 32,
	SCHEDOP_BLOCK = 1, VCPUOP_SET_SINGLESHOT_TIMER = 8, VCPUOP_STOP_SINGLESHOT_TIMER = 9,
	EVTCHNOP_UNMASK = 9, EVTCHNOP_INIT_CONTROL = 11, EVTCHNOP_EXPAND_ARRAY = 12,
};

#define hypercall(number, one, two, three) \
	({ \
		long result_; \
		uint64_t one_ = (uint64_t)(one), two_ = (uint64_t)(two), three_ = (uint64_t)(three); \
		__asm__ volatile("call hypercall_page + %c4" \
				 : "=a"(result_), "+D"(one_), "+S"(two_), "+d"(three_) \
				 : "i"((number) * 32) \
				 : "memory", "rcx", "r8", "r9", "r10", "r11", "cc"); \
		result_; \
	})

static inline struct vcpu_info *own_info(unsigned vcpu)
{
	return &shared_info.vcpu_info[vcpu];
}

static inline void unmask_by_xen(unsigned port)
{
	struct { uint32_t port; } argument = { port };

	hypercall(EVENT_CHANNEL_OP, EVTCHNOP_UNMASK, &argument, 0);
}

static inline void barrier(void) { __asm__ volatile("" ::: "memory"); }

/* Locked instructions on a bit, full barriers: what was there. */
static inline int set_bit(volatile uint64_t *words, unsigned bit)
{
	return __sync_fetch_and_or(&words[bit >> 6], 1ul << (bit & 63)) >> (bit & 63) & 1;
}

static inline int clear_bit(volatile uint64_t *words, unsigned bit)
{
	return __sync_fetch_and_and(&words[bit >> 6], ~(1ul << (bit & 63))) >> (bit & 63) & 1;
}

static inline int has_bit(volatile uint64_t *words, unsigned bit)
{
	return words[bit >> 6] >> (bit & 63) & 1;
}

/* The guest's side of delivery. The upcall vector is an edge: the handler makes its EOI, and the
 * flag is the demux's to clear. The others are levels: the handler clears the flag, or is entered
 * again at once; that has to be seen before it returns, or it undoes what Xen sets next. A PV guest's
 * interrupt flag is evtchn_upcall_mask. */
static inline void acknowledge(unsigned vcpu)
{
	if (delivery == BY_UPCALL_VECTOR)
		eoi();
	else {
		own_info(vcpu)->evtchn_upcall_pending = 0;
		__sync_synchronize();
	}
}

static inline void upcalls_off(unsigned vcpu)
{
	if (delivery == BY_PV_UPCALL) {
		own_info(vcpu)->evtchn_upcall_mask = 1;
		barrier();
	} else
		__asm__ volatile("cli" ::: "memory");
}

static inline void upcalls_on(unsigned vcpu)
{
	if (delivery == BY_PV_UPCALL) {
		barrier();
		own_info(vcpu)->evtchn_upcall_mask = 0;
		barrier();
		if (own_info(vcpu)->evtchn_upcall_pending)
			hypercall(XEN_VERSION, 0, 0, 0);
	} else
		__asm__ volatile("sti" ::: "memory");
}

/* With upcalls off: turn them on and sleep, with no upcall lost between the two. */
static inline void upcalls_sleep(unsigned vcpu)
{
	(void)vcpu;
	if (delivery == BY_PV_UPCALL)
		hypercall(SCHED_OP, SCHEDOP_BLOCK, 0, 0);
	else
		__asm__ volatile("sti; hlt" ::: "memory");
}

#endif
