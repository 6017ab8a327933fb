/* Who takes part: the unikernel's main loop, and a peer who sends it events. */
#include "explore.h"

void events_interrupt(void);
unsigned long events_wait(void);

static unsigned port;

static void upcall(unsigned vcpu)
{
	(void)vcpu;
	events_interrupt();
}

static void main_loop(unsigned long argument)
{
	(void)argument;
	for (;;)
		if (events_wait() >> port & 1)
			explore_see(0);
}

static void peer(unsigned long argument)
{
	(void)argument;
	for (unsigned i = 0; i < explore_sends; i++) {
		explore_produce(0);
		explore_send(port);
	}
}

void explore_setup(void)
{
	explore_handler(upcall);
	port = explore_port(0);
	explore_agent("unikernel", main_loop, 0);
	explore_agent("peer", peer, 0);
}
