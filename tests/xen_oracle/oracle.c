/* Programs on Xen's own code, step by step, and after each step a look at another World.
 *
 * program.py encodes steps. What Xen does in one is done here by Xen's code (perform). What a guest
 * does to its memory (act) is done to both memories, this one and the other World's. Then all that
 * can be seen is compared (oracle_check).
 */
#include <xen/event.h>
#include "xen_steps.h" /* the kinds of steps, from program.py */

#define MAX_DOMAINS 8
#define MAX_VCPUS 64
#define MAX_PORTS 131072
#define MAX_LISTENED 8
#define ASLEEP 1
#define CRASHED 10000

struct step {
    uint8_t kind, domain, vcpu, size;
    uint32_t number;
    uint8_t data[32];
};

/* A page of a guest's, in both Worlds: 0 is shared_info, n + 1 is frame n */
struct guest {
    struct domain *d;
    uint8_t *other[1 + MAX_FRAMES];
    unsigned int listened[MAX_LISTENED], listening;
    bool fifo;
    /* What a FIFO guest knows: control blocks, its own heads and what is left to do, the array */
    struct {
        bool ready;
        unsigned int page, offset, left, heads[16];
    } control[MAX_VCPUS];
    unsigned int array[128], array_pages;
    /* Ports whose state was looked at, and the highest that ever had one */
    unsigned int looked, highest;
};

static struct guest guests[MAX_DOMAINS];
static uint64_t states[MAX_DOMAINS][MAX_PORTS];
static unsigned int domains, vcpus;

/* Shared with Python */
uint32_t oracle_signals[MAX_VCPUS][3], *oracle_other_signals;
uint8_t oracle_argument[32], oracle_other_argument[32];
long oracle_result;
struct { uint32_t domain, port; } oracle_changed[64];
uint32_t oracle_changes;

/* Beginning */

void oracle_begin(void)
{
    for ( unsigned int i = 0; i < domains; i++ )
        memset(states[i], 0, sizeof(states[i][0]) * guests[i].looked);
    memset(guests, 0, sizeof(guests));
    memset(oracle_signals, 0, sizeof(oracle_signals));
    shim_forget_domains();
    domains = vcpus = 0;
}

void oracle_domain(unsigned int of_vcpus, unsigned int max_port, int delivery, unsigned int frames)
{
    guests[domains].d = shim_create(domains, of_vcpus, max_port, delivery, frames);
    vcpus += of_vcpus;
    domains++;
}

void *oracle_page(unsigned int domain, unsigned int page)
{
    struct domain *d = guests[domain].d;
    return page ? (void *)(d->memory + (page - 1) * PAGE_SIZE) : (void *)d->shared_info;
}

void oracle_compare_with(unsigned int domain, unsigned int page, void *other)
{
    guests[domain].other[page] = other;
}

/* Xen's half of a step */

static void consume(struct vcpu *v, unsigned int port)
{
    v->consumed++;
}

static long event_channel_op(struct guest *g, const struct step *s)
{
    XEN_GUEST_HANDLE_PARAM(void) handle = { .p = oracle_argument };
    long result;
    memcpy(oracle_argument, s->data, sizeof(s->data));
    shim_readable = s->size;
    result = do_event_channel_op(s->number, handle);
    if ( result == 0 && s->number == EVTCHNOP_init_control )
    {
        struct evtchn_init_control *of = (void *)s->data;
        g->control[of->vcpu].ready = true;
        g->control[of->vcpu].page = of->control_gfn + 1;
        g->control[of->vcpu].offset = of->offset;
    }
    else if ( result == 0 && s->number == EVTCHNOP_expand_array )
        g->array[g->array_pages++] = ((struct evtchn_expand_array *)s->data)->array_gfn + 1;
    return result;
}

static long poll(struct vcpu *v, const struct step *s)
{
    evtchn_port_t given[8], ports[256];
    unsigned int n = s->number & 255;
    long result;
    memcpy(given, s->data, sizeof(given));
    for ( unsigned int i = 0; i < n; i++ )
        ports[i] = s->size < 4 ? 0 : given[i % (s->size / 4)];
    result = shim_poll(ports, n);
    return result ?: test_bit(_VPF_blocked, &v->pause_flags) ? ASLEEP : 0;
}

static long raise_virq(struct domain *d, struct vcpu *v, unsigned int virq)
{
    switch ( virq )
    {
    case VIRQ_TIMER: case VIRQ_DEBUG: case VIRQ_XENOPROF: case VIRQ_XENPMU:
        send_guest_vcpu_virq(v, virq);
        break;
    default:
        send_guest_global_virq(d, virq);
    }
    return 0;
}

static long listen(struct guest *g, const struct step *s)
{
    long result;
    if ( g->listening == MAX_LISTENED )
        return 0;
    result = alloc_unbound_xen_event_channel(g->d, s->vcpu, s->number, consume);
    if ( result > 0 )
        g->listened[g->listening++] = result;
    return result;
}

static long silence(struct guest *g, unsigned int which)
{
    unsigned int port = g->listened[which];
    g->listening--;
    memmove(g->listened + which, g->listened + which + 1,
            sizeof(port) * (g->listening - which));
    free_xen_event_channel(g->d, port);
    return 0;
}

static long perform(const struct step *s)
{
    struct guest *g = &guests[s->domain];
    struct domain *d = g->d;
    struct vcpu *v = d->vcpu[s->vcpu];
    unsigned int which = g->listening ? s->number % g->listening : 0;
    current = v;
    switch ( s->kind )
    {
    case STEP_EVENT_CHANNEL_OP:
        return event_channel_op(g, s);
    case STEP_POLL:
        return poll(v, s);
    case STEP_BLOCK:
        shim_block();
        return test_bit(_VPF_blocked, &v->pause_flags) ? ASLEEP : 0;
    case STEP_WAKE:
        vcpu_unblock(v);
        return 0;
    case STEP_INTERRUPTS:
        v->interrupts = s->number;
        return 0;
    case STEP_CONSUME:
        v->vlapic.requested = false;
        return 0;
    case STEP_RAISE_VIRQ:
        return raise_virq(d, v, s->number);
    case STEP_RAISE_GLOBAL_VIRQ:
        send_global_virq(s->number);
        return 0;
    case STEP_HANDLE_VIRQ:
        return set_global_virq_handler(d, s->number);
    case STEP_RAISE_PIRQ:
        if ( is_hvm_domain(d) )
            send_guest_pirq(d, pirq_info(d, s->number));
        return 0;
    case STEP_LISTEN:
        return listen(g, s);
    case STEP_NOTIFY:
        if ( g->listening )
            notify_via_xen_event_channel(d, g->listened[which]);
        return 0;
    case STEP_SILENCE:
        return g->listening ? silence(g, which) : 0;
    case STEP_PAUSE:
        d->controller_pause_count++;
        return 0;
    case STEP_UNPAUSE:
        d->controller_pause_count -= d->controller_pause_count > 0;
        return 0;
    case STEP_SUSPEND:
        g->listening = 0;
        shim_suspend(d);
        return 0;
    case STEP_DESTROY:
        shim_destroy(d);
        return 0;
    }
    return 0;
}

static void note_signals(void)
{
    unsigned int at = 0;
    for ( unsigned int i = 0; i < domains; i++ )
        for ( unsigned int n = 0; n < guests[i].d->max_vcpus; n++, at++ )
        {
            struct vcpu *v = guests[i].d->vcpu[n];
            oracle_signals[at][0] = v->upcalls;
            oracle_signals[at][1] = v->consumed;
            oracle_signals[at][2] = test_bit(_VPF_blocked, &v->pause_flags);
        }
}

long oracle_perform(const struct step *s)
{
    struct guest *g = &guests[s->domain];
    long result;
    if ( setjmp(shim_out) )
        return CRASHED;
    result = perform(s);
    ASSERT(!shim_locks_held);
    if ( g->fifo && !g->d->evtchn_fifo ) /* it is back on the two-level ABI */
    {
        memset(g->control, 0, sizeof(g->control));
        g->array_pages = 0;
    }
    g->fifo = g->d->evtchn_fifo;
    note_signals();
    return result;
}

/* A guest's half: its loads are from this memory, its stores go into both */

static uint64_t load(struct guest *g, unsigned int page, unsigned int offset, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, (uint8_t *)oracle_page(g - guests, page) + offset, size);
    return value;
}

static void store(struct guest *g, unsigned int page, unsigned int offset, size_t size,
                  uint64_t value)
{
    memcpy((uint8_t *)oracle_page(g - guests, page) + offset, &value, size);
    if ( g->other[page] )
        memcpy(g->other[page] + offset, &value, size);
}

static void store_any(struct guest *g, const struct step *s)
{
    unsigned int page = (s->number >> 16) % (g->d->frames + 1), offset = s->number & 0xFFFF;
    uint64_t keep, flip;
    memcpy(&keep, s->data, 8);
    memcpy(&flip, s->data + 8, 8);
    if ( offset <= PAGE_SIZE - 8 )
        store(g, page, offset, 8, (load(g, page, offset, 8) & keep) ^ flip);
}

#define PENDING_AT offsetof(struct shared_info, evtchn_pending)
#define MASK_AT offsetof(struct shared_info, evtchn_mask)
static void consume_two_level(struct guest *g, unsigned int info, bool mask_what_fired)
{
    unsigned int selector = info + offsetof(struct vcpu_info, evtchn_pending_sel);
    uint64_t selected = load(g, 0, selector, 8);
    store(g, 0, selector, 8, 0);
    for ( ; selected; selected &= selected - 1 )
    {
        unsigned int word = 8 * __builtin_ctzl(selected);
        uint64_t pending = load(g, 0, PENDING_AT + word, 8), mask = load(g, 0, MASK_AT + word, 8);
        store(g, 0, PENDING_AT + word, 8, pending & mask);
        if ( mask_what_fired )
            store(g, 0, MASK_AT + word, 8, mask | pending);
    }
}

static void consume_fifo(struct guest *g, unsigned int vcpu, unsigned int most)
{
    __typeof__(*g->control) *c = &g->control[vcpu];
    unsigned int ready = c->left | (load(g, c->page, c->offset, 4) & 0xFFFF);
    store(g, c->page, c->offset, 4, 0);
    while ( ready && most-- )
    {
        unsigned int priority = __builtin_ctz(ready), port = c->heads[priority], page, at;
        uint32_t word;
        if ( !port )
            port = load(g, c->page, c->offset + 8 + 4 * priority, 4);
        c->heads[priority] = 0;
        if ( port / 1024 < g->array_pages )
        {
            page = g->array[port / 1024];
            at = port % 1024 * 4;
            word = load(g, page, at, 4);
            c->heads[priority] = word & EVTCHN_FIFO_LINK_MASK;
            word &= ~(1u << EVTCHN_FIFO_LINKED | EVTCHN_FIFO_LINK_MASK);
            if ( !(word & 1u << EVTCHN_FIFO_MASKED) )
                word &= ~(1u << EVTCHN_FIFO_PENDING);
            store(g, page, at, 4, word);
        }
        if ( !c->heads[priority] )
            ready &= ~(1u << priority);
        ready |= load(g, c->page, c->offset, 4) & 0xFFFF;
        store(g, c->page, c->offset, 4, 0);
    }
    c->left = ready;
}

static void wake(const struct step *s)
{
    if ( s->kind <= STEP_LAST_OF_A_GUEST )
        vcpu_unblock(guests[s->domain].d->vcpu[s->vcpu]);
}

static void act(const struct step *s)
{
    struct guest *g = &guests[s->domain];
    unsigned int info = s->vcpu * sizeof(struct vcpu_info);
    if ( s->kind == STEP_STORE )
        store_any(g, s);
    else if ( s->kind == STEP_CONSUME )
    {
        store(g, 0, info, 1, 0);
        if ( g->control[s->vcpu].ready )
            consume_fifo(g, s->vcpu, s->number);
        else if ( !g->d->evtchn_fifo )
            consume_two_level(g, info, s->number & 1);
    }
}

/* Looking */

static uint64_t state(const struct domain *d, unsigned int port)
{
    const struct evtchn *e = evtchn_from_port(d, port);
    uint64_t about = 0;
    switch ( e->state )
    {
    case ECS_UNBOUND: about = e->u.unbound.remote_domid; break;
    case ECS_INTERDOMAIN:
        about = e->u.interdomain.remote_port |
                (uint64_t)e->u.interdomain.remote_dom->domain_id << 20;
        break;
    case ECS_PIRQ: about = e->u.pirq.irq; break;
    case ECS_VIRQ: about = e->u.virq; break;
    }
    return e->state | e->xen_consumer << 4 | e->notify_vcpu_id << 8 | about << 24;
}

static void look_for_changes(unsigned int domain)
{
    struct guest *g = &guests[domain];
    unsigned int valid = g->d->valid_evtchns, port;
    if ( g->looked < valid )
        g->looked = valid;
    for ( port = 1; port < g->looked; port++ )
    {
        uint64_t now = port < valid ? state(g->d, port) : 0;
        if ( now == states[domain][port] )
            continue;
        states[domain][port] = now;
        if ( g->highest < port )
            g->highest = port;
        if ( oracle_changes < ARRAY_SIZE(oracle_changed) )
        {
            oracle_changed[oracle_changes].domain = domain;
            oracle_changed[oracle_changes].port = port;
        }
        oracle_changes++;
    }
}

static bool same_memory(struct guest *g, bool all_frames)
{
    if ( memcmp(g->d->shared_info, g->other[0], PAGE_SIZE) )
        return false;
    for ( unsigned int i = 0; i < g->d->frames; i++ )
        if ( (all_frames || g->d->pages[i].references) &&
             memcmp(g->d->memory + i * PAGE_SIZE, g->other[i + 1], PAGE_SIZE) )
            return false;
    return true;
}

#define DIFFERENT_RESULT 1
#define DIFFERENT_ARGUMENT 2
#define DIFFERENT_SIGNALS 4
#define DIFFERENT_MEMORY 8
#define CHANGED 16
#define CRASH 32

unsigned int oracle_compare(bool all_frames)
{
    unsigned int found = 0;
    if ( memcmp(oracle_signals, oracle_other_signals, sizeof(oracle_signals[0]) * vcpus) )
        found |= DIFFERENT_SIGNALS;
    for ( unsigned int i = 0; i < domains; i++ )
        if ( guests[i].d->is_dying == DOMDYING_alive && !same_memory(&guests[i], all_frames) )
            found |= DIFFERENT_MEMORY;
    return found;
}

unsigned int oracle_check(const struct step *program, unsigned int index, long result)
{
    const struct step *s = program + index;
    unsigned int found;
    wake(s);
    oracle_result = oracle_perform(s);
    if ( oracle_result == CRASHED )
        return CRASH;
    act(s);
    found = oracle_compare(false);
    if ( oracle_result != result )
        found |= DIFFERENT_RESULT;
    if ( s->kind == STEP_EVENT_CHANNEL_OP &&
         memcmp(oracle_argument, oracle_other_argument, s->size) )
        found |= DIFFERENT_ARGUMENT;
    oracle_changes = 0;
    for ( unsigned int i = 0; i < domains; i++ )
        if ( guests[i].d->is_dying == DOMDYING_alive )
            look_for_changes(i);
    return oracle_changes ? found | CHANGED : found;
}

/* EVTCHNOP_status of a domain's own port; the answer is in oracle_argument */
long oracle_status(unsigned int domain, unsigned int port)
{
    XEN_GUEST_HANDLE_PARAM(void) handle = { .p = oracle_argument };
    struct evtchn_status status;
    memset(&status, 0xA5, sizeof(status));
    status.dom = DOMID_SELF;
    status.port = port;
    memcpy(oracle_argument, &status, sizeof(status));
    current = guests[domain].d->vcpu[0];
    shim_readable = sizeof(status);
    return do_event_channel_op(EVTCHNOP_status, handle);
}

/* The highest port that was ever bound, and how many ports the table has */
unsigned int oracle_highest(unsigned int domain)
{
    return guests[domain].highest;
}

unsigned int oracle_valid(unsigned int domain)
{
    return guests[domain].d->valid_evtchns;
}
