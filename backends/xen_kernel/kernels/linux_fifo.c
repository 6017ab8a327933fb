/*
 * A lower half in the style of Linux's on the FIFO ABI. Each vCPU gives Xen its control block at
 * boot, and the first gives the pages of the event array, whose words it has masked beforehand. The
 * handler exchanges `ready` for 0, takes from the highest queue, and looks at `ready` afresh after
 * each event. An event is taken by clearing LINKED and the link in one cmpxchg, which also says
 * which is next. Unmasking is a cmpxchg that waits while Xen holds the word BUSY; a word that is
 * PENDING is left to Xen.
 *
 * Faults:
 *     1  LINKED and the link are cleared by a plain store: a link that Xen has just made is lost
 *     2  unmask does not look at PENDING
 *     3  the local head is forgotten when the handler returns
 *     4  `ready` is cleared after the queue was taken
 */
#include "lower_half.h"

#define QUEUES 16
#define VCPUS 4
#define PENDING (1u << 31)
#define MASKED (1u << 30)
#define LINKED (1u << 29)
#define BUSY (1u << 28)
#define LINK 0x1ffffu
#define WORDS 1024

struct control_block { volatile uint32_t ready, reserved; volatile uint32_t head[QUEUES]; };

const int lower_half_takes_in_handler = 1;

static union { struct control_block block; uint8_t page[4096]; }
	control[VCPUS] __attribute__((aligned(4096)));
static volatile uint32_t array[WORDS] __attribute__((aligned(4096)));
static uint32_t head[VCPUS][QUEUES];

static uint64_t frame(const volatile void *page)
{
	return (uint64_t)page >> 12;
}

void lower_half_start(unsigned vcpu)
{
	struct { uint64_t frame; uint32_t offset, vcpu; uint8_t link_bits, pad[7]; } init = {
		frame(&control[vcpu]), 0, vcpu, 0, { 0 }
	};
	struct { uint64_t frame; } expand = { frame(array) };

	hypercall(EVENT_CHANNEL_OP, EVTCHNOP_INIT_CONTROL, &init, 0);
	if (vcpu)
		return;
	for (unsigned word = 0; word < WORDS; word++)
		array[word] = MASKED;
	hypercall(EVENT_CHANNEL_OP, EVTCHNOP_EXPAND_ARRAY, &expand, 0);
}

static int change(volatile uint32_t *word, uint32_t *seen, uint32_t value)
{
	return __atomic_compare_exchange_n(word, seen, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* Take a word off its queue; gives which is next. */
static uint32_t unlink(volatile uint32_t *word)
{
	uint32_t seen = *word;

	if (FAULT == 1) {
		*word = seen & ~(LINKED | LINK);
		return seen & LINK;
	}
	while (!change(word, &seen, seen & ~(LINKED | LINK)))
		;
	return seen & LINK;
}

/* The next event of a queue. Whether it was the last. */
static int take_one(unsigned vcpu, unsigned queue)
{
	uint32_t port = head[vcpu][queue] ? head[vcpu][queue] : control[vcpu].block.head[queue];
	volatile uint32_t *word = &array[port];
	uint32_t next = unlink(word);

	head[vcpu][queue] = FAULT == 3 ? 0 : next;
	if ((*word & (PENDING | MASKED)) == PENDING) {
		event(vcpu, port);
		__atomic_fetch_or(word, MASKED, __ATOMIC_SEQ_CST);
		__atomic_fetch_and(word, ~PENDING, __ATOMIC_SEQ_CST);
	}
	return !next;
}

static uint32_t take_ready(unsigned vcpu)
{
	return __atomic_exchange_n(&control[vcpu].block.ready, 0, __ATOMIC_SEQ_CST);
}

void lower_half_upcall(unsigned vcpu)
{
	uint32_t ready;

	if (delivery == BY_UPCALL_VECTOR)
		eoi();
	do {
		own_info(vcpu)->evtchn_upcall_pending = 0;
		ready = FAULT == 4 ? control[vcpu].block.ready : take_ready(vcpu);
		while (ready) {
			unsigned queue = (unsigned)__builtin_ctz(ready);

			if (take_one(vcpu, queue))
				ready &= ~(1u << queue);
			if (FAULT != 4)
				ready |= take_ready(vcpu);
		}
		if (FAULT == 4)
			take_ready(vcpu);
	} while (own_info(vcpu)->evtchn_upcall_pending);
}

void lower_half_demux(unsigned vcpu) { (void)vcpu; }

void lower_half_bound(unsigned port, unsigned vcpu) { (void)port, (void)vcpu; }

void lower_half_mask(unsigned port)
{
	__atomic_fetch_or(&array[port], MASKED, __ATOMIC_SEQ_CST);
}

void lower_half_unmask(unsigned port)
{
	volatile uint32_t *word = &array[port];
	uint32_t seen = *word;

	while (seen & MASKED) {
		if (FAULT != 2 && seen & PENDING) {
			unmask_by_xen(port);
			return;
		}
		seen &= ~BUSY;
		if (change(word, &seen, seen & ~MASKED))
			return;
	}
}

void lower_half_block(unsigned vcpu, int timed)
{
	struct { uint64_t deadline; uint32_t flags; } timer = { 1, 0 };

	upcalls_off(vcpu);
	if (work(vcpu)) {
		upcalls_on(vcpu);
		return;
	}
	if (timed)
		hypercall(VCPU_OP, VCPUOP_SET_SINGLESHOT_TIMER, vcpu, &timer);
	upcalls_sleep(vcpu);
}
