/* The Xen around the event channel code: a heap, domains, and how an upcall reaches a vCPU. */
#include <xen/event.h>

int shim_locks_held;
unsigned int shim_readable;
struct domain *shim_domains, *hardware_domain;
struct vcpu *shim_current;
char shim_crash[256];
jmp_buf shim_out;

void shim_crashed(const char *what, const char *file, int line)
{
    snprintf(shim_crash, sizeof(shim_crash), "%s (%s:%d)", what, file, line);
    longjmp(shim_out, 1);
}

/* The heap. What a program of the longest tables takes is far less. */

static char heap[256 << 20] __attribute__((aligned(4096)));
static size_t heap_used;

static void *allocate(size_t size, size_t alignment)
{
    size_t start = (heap_used + alignment - 1) & -alignment;
    if ( start + size > sizeof(heap) )
        shim_crashed("the heap is too small", __FILE__, __LINE__);
    heap_used = start + size;
    return memset(heap + start, 0, size);
}

void *shim_allocate(size_t size)
{
    return allocate(size, 64);
}

/* Domains */

struct domain *shim_domain(unsigned int domid)
{
    struct domain *d;
    for_each_domain ( d )
        if ( d->domain_id == domid && d->is_dying != DOMDYING_dead )
            return d;
    return NULL;
}

void shim_forget_domains(void)
{
    for ( unsigned int virq = 0; virq < NR_VIRQS; virq++ )
        set_global_virq_handler(NULL, virq);
    heap_used = 0;
    shim_locks_held = 0;
    shim_domains = hardware_domain = NULL;
}

struct domain *shim_create(unsigned int domid, unsigned int vcpus, unsigned int max_port,
                           enum delivery delivery, unsigned int frames)
{
    struct domain *d = xzalloc(struct domain);
    d->domain_id = domid;
    d->is_privileged = domid == 0;
    d->delivery = delivery;
    d->max_vcpus = vcpus;
    d->vcpu = xzalloc_array(struct vcpu *, vcpus);
    d->nr_pirqs = PIRQS;
    for ( int i = 0; i < PIRQS; i++ )
        d->pirqs[i].pirq = i;
    d->shared_info = allocate(PAGE_SIZE, PAGE_SIZE);
    d->frames = frames;
    d->memory = allocate(frames * PAGE_SIZE, PAGE_SIZE);
    for ( unsigned int i = 0; i < vcpus; i++ )
    {
        struct vcpu *v = d->vcpu[i] = xzalloc(struct vcpu);
        v->vcpu_id = i;
        v->domain = d;
        v->vcpu_info = &d->shared_info->vcpu_info[i];
        v->arch.hvm.evtchn_upcall_vector = delivery == VECTOR ? 32 : 0;
        v->vlapic.vcpu = v;
        if ( i )
            d->vcpu[i - 1]->next_in_list = v;
    }
    d->next_in_list = shim_domains;
    shim_domains = d;
    if ( d->is_privileged )
        hardware_domain = d;
    if ( evtchn_init(d, max_port) )
        BUG();
    return d;
}

void shim_suspend(struct domain *d)
{
    struct vcpu *v;
    shim_destroy(d);
    for_each_vcpu ( d, v )
    {
        v->vlapic.requested = false;
        v->pirq_evtchn_head = 0;
    }
    memset(d->shared_info, 0, PAGE_SIZE);
    memset(d->evtchn_group, 0, sizeof(d->evtchn_group));
    d->is_dying = DOMDYING_alive;
    d->next_evtchn = 0;
    if ( evtchn_init(d, d->max_evtchn_port) )
        BUG();
}

void shim_destroy(struct domain *d)
{
    struct vcpu *v;
    for_each_vcpu ( d, v )
        vcpu_unblock(v);
    d->is_dying = DOMDYING_dying;
    if ( evtchn_destroy(d) )
        BUG();
    d->is_dying = DOMDYING_dead;
}

/* Frames */

void *__map_domain_page_global(struct page_info *page)
{
    struct domain *d;
    for_each_domain ( d )
        if ( page >= d->pages && page < d->pages + MAX_FRAMES )
            return d->memory + (page - d->pages) * PAGE_SIZE;
    BUG();
}

struct page_info *mfn_to_page(void *mapped)
{
    struct domain *d;
    for_each_domain ( d )
        if ( (char *)mapped >= d->memory && (char *)mapped < d->memory + d->frames * PAGE_SIZE )
            return &d->pages[((char *)mapped - d->memory) / PAGE_SIZE];
    BUG();
}

/* Upcalls, blocking and polling: Xen's own, down to the interrupt controller */

#define in_irq() false
#define local_irq_is_enabled() true
#define tasklet_schedule(tasklet) BUG()
#define vcpu_vlapic(v) (&(v)->vlapic)
#define vlapic_enabled(vlapic) true
#define hvm_set_callback_irq_level(v) BUG()

void vcpu_kick(struct vcpu *v)
{
    v->upcalls++;
    vcpu_unblock(v);
}

static void vlapic_set_irq(struct vlapic *vlapic, uint8_t vector, uint8_t trigger)
{
    bool requested = vlapic->requested;
    vlapic->requested = true;
    if ( requested )
        vlapic->vcpu->upcalls++;
    else
        vcpu_kick(vlapic->vcpu);
}

int hvm_local_events_need_delivery(struct vcpu *v)
{
    bool due = v->domain->delivery == CALLBACK ? vcpu_info(v, evtchn_upcall_pending)
                                               : v->vlapic.requested;
    return due && v->interrupts;
}

#include "xen_upcall.h" /* vcpu_unblock, vcpu_block, do_poll, hvm_assert_evtchn_irq and the like */

long shim_poll(evtchn_port_t *ports, unsigned int n)
{
    struct sched_poll poll = { .ports = { .p = ports }, .nr_ports = n };
    return do_poll(&poll);
}

void shim_block(void)
{
    vcpu_block_enable_events();
}
