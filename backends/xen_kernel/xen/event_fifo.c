/*
 * The FIFO ABI, as xen/common/event_fifo.c has it: an event word for each port, linked into a queue
 * for each vCPU and priority. Xen appends behind the tail, which it alone knows, by a cmpxchg that
 * fails where the guest has taken the tail off meanwhile: then the queue is empty, and the head is
 * written. After a first failure Xen sets BUSY, which keeps the guest from unmasking.
 *
 * Frames are numbered by their address: one guest, one address space.
 */
#include "xen.h"

#define QUEUES 16
#define DEFAULT_PRIORITY 7
#define PENDING (1u << 31)
#define MASKED (1u << 30)
#define LINKED (1u << 29)
#define BUSY (1u << 28)
#define LINK 0x1ffffu
#define ATTEMPTS 4
#define WORDS 1024

struct control_block { volatile uint32_t ready, reserved; volatile uint32_t head[QUEUES]; };

static struct control_block *control[32];
static uint32_t tail[32][QUEUES];
static volatile uint8_t queue_free[32][QUEUES];
static volatile uint32_t *page[PORTS / WORDS];
static unsigned pages;

static volatile uint32_t *word_of(unsigned port)
{
	return port / WORDS < pages ? &page[port / WORDS][port % WORDS] : 0;
}

static int set_bit32(volatile uint32_t *word, uint32_t bit)
{
	return (__sync_fetch_and_or(word, bit) & bit) != 0;
}

static uint32_t load(volatile uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* One attempt: 1 it is linked, 0 the tail is on no queue, -1 the word has changed. */
static int try_link(volatile uint32_t *word, uint32_t *seen, uint32_t port)
{
	uint32_t expected = *seen;

	if (!(expected & LINKED))
		return 0;
	*seen = __sync_val_compare_and_swap(word, expected, (expected & ~(BUSY | LINK)) | port);
	return *seen == expected ? 1 : -1;
}

static int set_link(volatile uint32_t *word, uint32_t port)
{
	uint32_t seen = load(word);
	int linked = try_link(word, &seen, port);

	if (linked >= 0)
		return linked;
	set_bit32(word, BUSY);
	seen = load(word);
	for (int i = 0; i < ATTEMPTS; i++) {
		linked = try_link(word, &seen, port);
		if (linked < 0)
			continue;
		if (!linked)
			__sync_fetch_and_and(word, ~BUSY);
		return linked;
	}
	__sync_fetch_and_and(word, ~BUSY);
	return 1;
}

static void set_pending(unsigned port)
{
	volatile uint32_t *word = word_of(port);
	unsigned vcpu = channel[port].vcpu, queue = channel[port].priority;
	int announce = 0, came;

	if (!word || !control[vcpu])
		return;
	cpu_lock(&queue_free[vcpu][queue]);
	came = !set_bit32(word, PENDING);
	if (!(load(word) & MASKED) && !set_bit32(word, LINKED)) {
		struct channel *its = &channel[port];

		if (tail[its->queue_vcpu][its->queue_priority] == port)
			tail[its->queue_vcpu][its->queue_priority] = 0;
		its->queue_vcpu = (uint8_t)vcpu;
		its->queue_priority = (uint8_t)queue;
		announce = !tail[vcpu][queue] || !set_link(word_of(tail[vcpu][queue]), port);
		if (announce)
			__atomic_store_n(&control[vcpu]->head[queue], port, __ATOMIC_RELEASE);
		tail[vcpu][queue] = port;
	}
	unlock(&queue_free[vcpu][queue]);
	if (announce && !set_bit32(&control[vcpu]->ready, 1u << queue))
		mark_events_pending(vcpu);
	if (came)
		wake_pollers(port);
}

static void clear_pending(unsigned port)
{
	if (word_of(port))
		__sync_fetch_and_and(word_of(port), ~PENDING);
}

static void unmask(unsigned port)
{
	volatile uint32_t *word = word_of(port);

	if (!word)
		return;
	__sync_fetch_and_and(word, ~MASKED);
	if (load(word) & PENDING)
		set_pending(port);
}

static int is_pending(unsigned port)
{
	return word_of(port) && load(word_of(port)) & PENDING;
}

static int is_masked(unsigned port)
{
	return !word_of(port) || load(word_of(port)) & MASKED;
}

const struct port_operations fifo = {set_pending, clear_pending, unmask, is_pending, is_masked};

long fifo_init_control(uint64_t gfn, uint32_t offset, uint32_t vcpu)
{
	if (vcpu >= explore_vcpus)
		return -2;	/* ENOENT */
	if (offset > 4096 - sizeof(struct control_block) || offset & 7 || control[vcpu] ||
	    !cpu_has_frame(gfn))
		return -22;	/* EINVAL */
	control[vcpu] = (struct control_block *)((gfn << 12) + offset);
	for (unsigned queue = 0; queue < QUEUES; queue++)
		queue_free[vcpu][queue] = 1;
	for (unsigned port = 0; port < PORTS && port_operations != &fifo; port++)
		channel[port].priority = DEFAULT_PRIORITY;
	port_operations = &fifo;
	return 0;
}

long fifo_expand_array(uint64_t gfn)
{
	if (port_operations != &fifo)
		return -95;	/* EOPNOTSUPP */
	if (pages == PORTS / WORDS)
		return -28;	/* ENOSPC */
	if (!cpu_has_frame(gfn))
		return -22;	/* EINVAL */
	page[pages++] = (volatile uint32_t *)(gfn << 12);
	return 0;
}
