/*
 * The harness of a lower half (lower_half.h): each vCPU's main loop, and a peer for each port, who
 * produces an item and sends an event, as often as was asked.
 *
 * The loop: demux; for each port that fired, look what the peer has produced, and unmask it; where
 * none has, block. What comes between the two has to fire again. A port is the vCPU's whose number is its own modulo how many there are.
 */
#include "explore.h"
#include "lower_half.h"

#define MOST 16

static unsigned port_of[MOST], timer_port[MOST];
static volatile uint64_t fired[MOST], ticked[MOST];

static unsigned owner(unsigned item) { return item % explore_vcpus; }

void event(unsigned vcpu, unsigned port)
{
	explore_delivered(port);
	for (unsigned item = 0; item < explore_ports; item++)
		if (port_of[item] == port)
			fired[item] = 1;
	if (explore_timer && timer_port[vcpu] == port)
		ticked[vcpu] = 1;
}

int work(unsigned vcpu)
{
	for (unsigned item = vcpu; item < explore_ports; item += explore_vcpus)
		if (fired[item])
			return 1;
	return explore_timer && ticked[vcpu];
}

static int consume(unsigned vcpu)
{
	int some = 0;

	for (unsigned item = vcpu; item < explore_ports; item += explore_vcpus) {
		if (!fired[item])
			continue;
		fired[item] = 0;
		explore_see(item);
		lower_half_unmask(port_of[item]);
		some = 1;
	}
	if (explore_timer && ticked[vcpu]) {
		ticked[vcpu] = 0;
		lower_half_unmask(timer_port[vcpu]);
		some = 1;
	}
	return some;
}

/* Whether a vCPU has seen all that it will be sent: then it sets no timer any more. */
static int seen_all(unsigned vcpu)
{
	for (unsigned item = vcpu; item < explore_ports; item += explore_vcpus)
		if (explore_seen(item) < explore_sends)
			return 0;
	return 1;
}

static void main_loop(unsigned long vcpu)
{
	for (;;) {
		if (!lower_half_takes_in_handler)
			explore_pass();
		lower_half_demux((unsigned)vcpu);
		if (!lower_half_takes_in_handler)
			explore_pass();
		if (!consume((unsigned)vcpu))
			lower_half_block((unsigned)vcpu, explore_timer && !seen_all((unsigned)vcpu));
	}
}

static void handler(unsigned vcpu)
{
	if (lower_half_takes_in_handler)
		explore_pass();
	lower_half_upcall(vcpu);
	if (lower_half_takes_in_handler)
		explore_pass();
}

static void peer(unsigned long item)
{
	for (unsigned i = 0; i < explore_sends; i++) {
		explore_produce((unsigned)item);
		explore_send(port_of[item]);
	}
}

static void bind_timer(unsigned vcpu)
{
	struct { uint32_t virq, vcpu, port; } bind = {0, vcpu, 0};

	hypercall(EVENT_CHANNEL_OP, 1, &bind, 0);
	timer_port[vcpu] = bind.port;
	lower_half_bound(bind.port, vcpu);
	lower_half_unmask(bind.port);
}

void explore_setup(void)
{
	static const char *const vcpus[] = {"vCPU 0", "vCPU 1", "vCPU 2", "vCPU 3"};
	static const char *const peers[] = {"peer 0", "peer 1", "peer 2", "peer 3", "peer 4", "peer 5"};

	explore_handler(handler);
	for (unsigned vcpu = 0; vcpu < explore_vcpus; vcpu++) {
		explore_on_vcpu(vcpu);
		lower_half_start(vcpu);
	}
	for (unsigned item = 0; item < explore_ports; item++) {
		explore_on_vcpu(owner(item));
		port_of[item] = explore_port(owner(item));
		lower_half_bound(port_of[item], owner(item));
		lower_half_unmask(port_of[item]);
	}
	for (unsigned vcpu = 0; vcpu < explore_vcpus; vcpu++) {
		explore_on_vcpu(vcpu);
		if (explore_timer)
			bind_timer(vcpu);
	}
	for (unsigned vcpu = 0; vcpu < explore_vcpus; vcpu++)
		explore_agent(vcpus[vcpu], main_loop, vcpu);
	for (unsigned item = 0; item < explore_ports; item++)
		explore_agent(peers[item], peer, item);
	if (explore_timer)
		explore_timers();
}
