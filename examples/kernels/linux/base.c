/*
 * What stands above Linux's events_2l.c and events_fifo.c, in place of events_base.c: a lower half
 * (lower_half.h). FIFO is tried first, and where Xen refuses it the two-level ABI is taken. An event
 * that is delivered is masked and its pending bit cleared, as for handlers that end it later; it is
 * unmasked once its consumer has looked, with interrupts off.
 */
#include "lower_half.h"

#include <xen/events.h>

#include "events_internal.h"

#define MOST_PORTS 4096
#define PAGES 8

const int lower_half_takes_in_handler = 1;

const struct evtchn_ops *evtchn_ops;
DEFINE_PER_CPU(struct vcpu_info *, xen_vcpu);
static uint8_t owner[MOST_PORTS];
static uint8_t pages[PAGES][4096] __attribute__((aligned(4096)));
static unsigned pages_used;

unsigned long __get_free_page(int flags)
{
	(void)flags;
	return pages_used < PAGES ? (unsigned long)pages[pages_used++] : 0;
}

void free_page(unsigned long page) { (void)page; }

int HYPERVISOR_event_channel_op(int operation, void *argument)
{
	return (int)hypercall(EVENT_CHANNEL_OP, operation, argument, 0);
}

unsigned cpu_from_evtchn(evtchn_port_t port) { return owner[port]; }

int irq_evtchn_from_virq(unsigned cpu, unsigned virq, evtchn_port_t *port)
{
	(void)cpu, (void)virq, (void)port;
	return -1;	/* no timer of this kind */
}

void handle_irq_for_port(evtchn_port_t port, struct evtchn_loop_ctrl *control)
{
	(void)control;
	mask_evtchn(port);
	clear_evtchn(port);
	event(this_vcpu(), port);
}

void lower_half_start(unsigned vcpu)
{
	xen_vcpu[vcpu] = own_info(vcpu);
	if (vcpu) {
		if (evtchn_ops->percpu_init)
			evtchn_ops->percpu_init(vcpu);
		return;
	}
	for (unsigned word = 0; word < 64; word++)
		shared_info.evtchn_mask[word] = ~0ul;
	if (xen_evtchn_fifo_init() < 0)
		xen_evtchn_2l_init();
}

void lower_half_upcall(unsigned vcpu)
{
	if (delivery == BY_UPCALL_VECTOR)
		eoi();
	do {
		own_info(vcpu)->evtchn_upcall_pending = 0;
		xen_evtchn_handle_events(vcpu, (struct evtchn_loop_ctrl *)&evtchn_ops);
		virt_rmb();
	} while (own_info(vcpu)->evtchn_upcall_pending);
}

void lower_half_demux(unsigned vcpu) { (void)vcpu; }

void lower_half_bound(unsigned port, unsigned vcpu)
{
	owner[port] = (uint8_t)vcpu;
	xen_evtchn_port_setup(port);
	xen_evtchn_port_bind_to_cpu(port, vcpu, vcpu);
}

void lower_half_mask(unsigned port) { mask_evtchn(port); }

void lower_half_unmask(unsigned port)
{
	unsigned vcpu = this_vcpu();

	upcalls_off(vcpu);
	unmask_evtchn(port);
	upcalls_on(vcpu);
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
