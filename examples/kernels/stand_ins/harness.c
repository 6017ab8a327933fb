/* Who takes part: the driver's thread, and a peer for each of two ports. */
#include "explore.h"

void driver_interrupt(void);
unsigned long driver_take(void);
void driver_idle(void);

static unsigned port[2];

static void upcall(unsigned vcpu)
{
	(void)vcpu;
	driver_interrupt();
}

static void thread(unsigned long argument)
{
	(void)argument;
	for (;;) {
		unsigned long taken = driver_take();

		for (unsigned i = 0; i < 2; i++)
			if (taken >> port[i] & 1)
				explore_see(i);
		if (!taken)
			driver_idle();
	}
}

static void peer(unsigned long which)
{
	explore_produce((unsigned)which);
	explore_send(port[which]);
}

void explore_setup(void)
{
	explore_handler(upcall);
	for (unsigned i = 0; i < 2; i++)
		port[i] = explore_port(0);
	explore_agent("thread", thread, 0);
	explore_agent("peer 0", peer, 0);
	explore_agent("peer 1", peer, 1);
}
