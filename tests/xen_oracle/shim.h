/* What event_channel.c, event_2l.c and event_fifo.c need of the rest of Xen, in user space.
 *
 * Forced in before everything else. The headers that Xen's code asks for are empty files, or Xen's
 * own: build.py says which. One thread; locks are counters, so that one left held is seen. What
 * Xen would crash on (BUG, ASSERT) ends the step with what it said in shim_crash.
 */
#ifndef SHIM_H
#define SHIM_H

#define CONFIG_X86
#define CONFIG_HAS_PIRQ
#define CONFIG_EVTCHN_FIFO

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define XEN_ERRNO(name, value) name = value,
enum {
#include <public/errno.h>
};
#include <public/xen.h>
#include <public/event_channel.h>
#include <public/sched.h>

/* The compiler, arithmetic */

typedef bool bool_t;
#define always_inline inline __attribute__((always_inline))
#define cf_check
#define fallthrough __attribute__((fallthrough))
#define __must_check
#define __read_mostly
#define __init
#define __initcall(f) static void *initcall_##f __attribute__((unused)) = (void *)f
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof(*(a)))
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define min_t(t, a, b) ((t)(a) < (t)(b) ? (t)(a) : (t)(b))
#define SWAP(a, b) do { __typeof__(a) a_ = (a); (a) = (b); (b) = a_; } while ( 0 )
#define BUILD_BUG_ON(c) _Static_assert(!(c), #c)
#define PAGE_SIZE 4096UL
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define BITS_PER_LONG 64
#define BITS_PER_XEN_ULONG 64
#define BITS_TO_LONGS(n) DIV_ROUND_UP(n, 64)

/* Crashes, messages */

void shim_crashed(const char *what, const char *file, int line) __attribute__((noreturn));
#define BUG() shim_crashed("BUG", __FILE__, __LINE__)
#define BUG_ON(c) do { if ( c ) shim_crashed("BUG_ON: " #c, __FILE__, __LINE__); } while ( 0 )
#define ASSERT(c) do { if ( !(c) ) shim_crashed("ASSERT: " #c, __FILE__, __LINE__); } while ( 0 )
#define LINKER_BUG_ON(c) BUG_ON(c)
#define XENLOG_WARNING
#define XENLOG_G_WARNING
#define printk(...) ((void)0)
#define gprintk(...) ((void)0)
#define gdprintk(...) ((void)0)
#define TRACE_2D(...) ((void)0)
#define TRACE_TIME(...) ((void)0)
#define register_keyhandler(key, function, what, diagnostic) ((void)(function))

/* One thread: nothing to order, nothing speculative */

#define smp_mb() ((void)0)
#define smp_rmb() ((void)0)
#define smp_wmb() ((void)0)
#define smp_mb__after_atomic() ((void)0)
#define read_atomic(p) (*(p))
#define write_atomic(p, value) (*(p) = (value))
#define array_index_nospec(i, n) ((void)(n), (i))
#define array_access_nospec(a, i) ((a)[i])
#define evaluate_nospec(c) (c)
#define cmpxchg(p, old, new) \
    ({ __typeof__(*(p)) found_ = *(p); if ( found_ == (old) ) *(p) = (new); found_; })
#define cmpxchgptr cmpxchg

extern int shim_locks_held;
typedef struct { int readers, writer; } rwlock_t;
typedef struct { int held; } spinlock_t;
#define DEFINE_SPINLOCK(name) spinlock_t name
#define rwlock_init(l) ((void)(*(l) = (rwlock_t){ 0 }))
#define spin_lock_init(l) ((void)((l)->held = 0))
static inline void read_lock(rwlock_t *l)
{
    ASSERT(!l->writer);
    l->readers++;
    shim_locks_held++;
}
static inline bool read_trylock(rwlock_t *l)
{
    if ( l->writer )
        return false;
    read_lock(l);
    return true;
}
static inline void read_unlock(rwlock_t *l)
{
    ASSERT(l->readers > 0);
    l->readers--;
    shim_locks_held--;
}
static inline void write_lock(rwlock_t *l)
{
    ASSERT(!l->writer && !l->readers);
    l->writer = 1;
    shim_locks_held++;
}
static inline void write_unlock(rwlock_t *l)
{
    ASSERT(l->writer);
    l->writer = 0;
    shim_locks_held--;
}
static inline void spin_lock(spinlock_t *l)
{
    ASSERT(!l->held);
    l->held = 1;
    shim_locks_held++;
}
static inline void spin_unlock(spinlock_t *l)
{
    ASSERT(l->held);
    l->held = 0;
    shim_locks_held--;
}
#define read_lock_irqsave(l, flags) ((flags) = 0, read_lock(l))
#define read_unlock_irqrestore(l, flags) ((void)(flags), read_unlock(l))
#define write_lock_irqsave(l, flags) ((flags) = 0, write_lock(l))
#define write_unlock_irqrestore(l, flags) ((void)(flags), write_unlock(l))
#define spin_lock_irqsave(l, flags) ((flags) = 0, spin_lock(l))
#define spin_unlock_irqrestore(l, flags) ((void)(flags), spin_unlock(l))

/* Bits, in words of 32 as the x86 instructions of Xen take them */

#define WORD_OF(n, p) (((uint32_t *)(p))[(unsigned int)(n) / 32])
#define BIT_OF(n) (1u << ((unsigned int)(n) % 32))
#define test_bit(n, p) (!!(WORD_OF(n, p) & BIT_OF(n)))
#define set_bit(n, p) ((void)(WORD_OF(n, p) |= BIT_OF(n)))
#define clear_bit(n, p) ((void)(WORD_OF(n, p) &= ~BIT_OF(n)))
#define test_and_set_bit(n, p) \
    ({ unsigned int n_ = (n); bool was_ = test_bit(n_, p); set_bit(n_, p); was_; })
#define test_and_clear_bit(n, p) \
    ({ unsigned int n_ = (n); bool was_ = test_bit(n_, p); clear_bit(n_, p); was_; })
static inline unsigned int find_next_bit(const void *p, unsigned int size, unsigned int from)
{
    while ( from < size && !test_bit(from, p) )
        from++;
    return from;
}
#define find_first_bit(p, size) find_next_bit(p, size, 0)
#define bitmap_empty(p, size) (find_first_bit(p, size) >= (size))
#define bitmap_for_each(i, p, size) \
    for ( (i) = find_first_bit(p, size); (i) < (size); (i) = find_next_bit(p, size, (i) + 1) )

/* Xen's heap: given out and never taken back; the next program begins it anew */

void *shim_allocate(size_t size);
#define xzalloc(type) ((type *)shim_allocate(sizeof(type)))
#define xzalloc_array(type, n) ((type *)shim_allocate(sizeof(type) * (n)))
#define xfree(p) ((void)(p))

/* vCPUs */

#define MAX_VIRT_CPUS 128 /* more than BITS_PER_LONG, as on x86 */
#define NR_CPU_IDS 1
#include "xen_evtchn.h" /* struct evtchn and its constants, cut out of xen/sched.h */

enum delivery { VECTOR, CALLBACK, PV };
struct vlapic {
    struct vcpu *vcpu;
    bool requested; /* the upcall vector's bit in IRR */
};
struct vcpu {
    int vcpu_id;
    struct domain *domain;
    struct vcpu *next_in_list;
    struct vcpu_info *vcpu_info;
    int processor;
    unsigned long pause_flags;
    int poll_evtchn;
    int pirq_evtchn_head;
    evtchn_port_t virq_to_evtchn[NR_VIRQS];
    rwlock_t virq_lock;
    struct evtchn_fifo_vcpu *evtchn_fifo;
    struct {
        struct {
            uint8_t evtchn_upcall_vector;
        } hvm;
    } arch;
    struct vlapic vlapic;
    bool interrupts;             /* the interrupt flag */
    unsigned int upcalls, consumed; /* how often it was upcalled, how often Xen consumed an event */
};
#define _VPF_blocked 0
#define _VPF_blocked_in_xen 3
#define is_idle_vcpu(v) false
#define is_hvm_vcpu(v) is_hvm_domain((v)->domain)
#define vcpu_info(v, field) ((v)->vcpu_info->field)
#define vcpu_wake(v) ((void)(v))
#define arch_vcpu_block(v) ((void)(v))
#define set_timer(timer, at) ((void)(at))
#define raise_softirq(n) ((void)0)
void vcpu_unblock(struct vcpu *v);

/* Domains, and their frames: plain memory, frame 0 at the start of it */

struct page_info { unsigned int references, writable; };
struct pirq { int pirq; uint16_t evtchn; };
#define MAX_FRAMES 160
#define PIRQS 48
struct domain {
    domid_t domain_id;
    bool is_privileged;
    enum { DOMDYING_alive, DOMDYING_dying, DOMDYING_dead } is_dying;
    int controller_pause_count;
    struct domain *target, *next_in_list;
    unsigned int max_vcpus;
    struct vcpu **vcpu;
    struct shared_info *shared_info;
    struct evtchn *evtchn;
    struct evtchn **evtchn_group[NR_EVTCHN_GROUPS];
    unsigned int max_evtchn_port, valid_evtchns, active_evtchns, xen_evtchns, next_evtchn;
    const struct evtchn_port_ops *evtchn_port_ops;
    struct evtchn_fifo_domain *evtchn_fifo;
    rwlock_t event_lock;
    unsigned long *poll_mask;
    unsigned int nr_pirqs;
    struct pirq pirqs[PIRQS];
    enum delivery delivery;
    unsigned int frames;
    struct page_info pages[MAX_FRAMES];
    char *memory;
};
extern struct domain *shim_domains, *hardware_domain;
extern struct vcpu *shim_current;
struct domain *shim_domain(unsigned int domid); /* NULL where there is none */
#define current shim_current
#define for_each_domain(d) for ( (d) = shim_domains; (d); (d) = (d)->next_in_list )
#define for_each_vcpu(d, v) for ( (v) = (d)->vcpu[0]; (v); (v) = (v)->next_in_list )
#define domain_vcpu(d, id) ((unsigned int)(id) < (d)->max_vcpus ? (d)->vcpu[id] : NULL)
#define shared_info(d, field) ((d)->shared_info->field)
#define is_hvm_domain(d) ((d)->delivery != PV)
#define is_hvm_pv_evtchn_domain(d) ((d)->delivery == CALLBACK)
#define is_control_domain(d) ((d)->is_privileged)
#define is_xenstore_domain(d) false
#define get_domain(d) true
#define put_domain(d) ((void)0)
#define domain_init_states() 0
#define domain_deinit_states(d) ((void)(d))
#define rcu_lock_domain_by_any_id(id) ((id) == DOMID_SELF ? current->domain : shim_domain(id))
#define rcu_lock_domain(d) ((void)(d))
#define rcu_unlock_domain(d) ((void)(d))
#define rcu_read_lock(l) ((void)0)
#define rcu_read_unlock(l) ((void)0)

/* Guests' memory: an argument, of which shim_readable bytes can be read; frames that Xen maps */

extern unsigned int shim_readable;
#define guest_handle_okay(handle, n) true
#define __copy_from_guest_offset(to, handle, at, n) ({ *(to) = (handle).p[at]; 0; })
#define copy_from_guest(to, handle, n) ({ \
    bool readable_ = sizeof(*(to)) * (n) <= shim_readable; \
    if ( readable_ ) \
        memcpy(to, (handle).p, sizeof(*(to)) * (n)); \
    !readable_; })
#define __copy_to_guest(handle, from, n) ({ memcpy((handle).p, from, sizeof(*(from)) * (n)); 0; })
#define P2M_ALLOC 0
#define PGT_writable_page 0
static inline struct page_info *get_page_from_gfn(struct domain *d, uint64_t gfn, void *t, int q)
{
    if ( gfn >= d->frames )
        return NULL;
    d->pages[gfn].references++;
    return &d->pages[gfn];
}
static inline bool get_page_type(struct page_info *page, int type)
{
    page->writable++;
    return true;
}
static inline void put_page(struct page_info *page)
{
    ASSERT(page->references > 0);
    page->references--;
}
static inline void put_page_and_type(struct page_info *page)
{
    ASSERT(page->writable > 0);
    page->writable--;
    put_page(page);
}
void *__map_domain_page_global(struct page_info *page);
struct page_info *mfn_to_page(void *mapped);
#define domain_page_map_to_mfn(mapped) (mapped)
#define unmap_domain_page_global(mapped) ((void)(mapped))

/* Physical interrupts: no hardware is behind any, and a PV guest was given none */

typedef int cpumask_t;
#define cpumask_of(cpu) ((const cpumask_t *)NULL)
#define pirq_info(d, n) ((unsigned int)(n) < (d)->nr_pirqs ? &(d)->pirqs[n] : NULL)
#define pirq_get_info(d, n) pirq_info(d, n)
#define pirq_to_evtchn(d, n) ((d)->pirqs[n].evtchn)
#define pirq_access_permitted(d, n) false
#define pirq_guest_bind(v, pirq, share) (-EINVAL)
#define pirq_guest_unbind(d, pirq) ((void)0)
#define arch_evtchn_bind_pirq(d, n) ((void)0)
#define domain_pirq_to_irq(d, n) 0
#define unmap_domain_pirq_emuirq(d, n) 0
#define pirq_cleanup_check(pirq, d) ((void)(pirq))
#define pirq_set_affinity(d, n, mask) ((void)(mask))

/* Preemption of a long reset: none. It is not seen from the guest. */

#define hypercall_preempt_check() false
#define hypercall_create_continuation(op, format, command, argument) ((void)(argument), 0)

/* What shim.c calls of Xen's, and what it gives */

int hvm_local_events_need_delivery(struct vcpu *v);
long do_event_channel_op(int command, XEN_GUEST_HANDLE_PARAM(void) argument);
int evtchn_init(struct domain *d, unsigned int max_port);
int evtchn_destroy(struct domain *d);

struct domain *shim_create(unsigned int domid, unsigned int vcpus, unsigned int max_port,
                           enum delivery delivery, unsigned int frames);
void shim_forget_domains(void);
void shim_suspend(struct domain *d);
void shim_destroy(struct domain *d);
long shim_poll(evtchn_port_t *ports, unsigned int n); /* SCHEDOP_poll, SCHEDOP_block of current */
void shim_block(void);
extern char shim_crash[256];
extern jmp_buf shim_out; /* where a crash goes */
#endif
