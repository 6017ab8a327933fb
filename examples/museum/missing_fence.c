/*
 * A fence left out between a store and a load.
 *
 * Either end of a ring stores a word and then loads the other's: "I sleep, tell me of the next" and
 * "is there one by now?"; "here is one" and "do you want to be told?". x86 may load first, while its
 * store waits in the processor's buffer. Then both have looked before either has written.
 *
 *     activations explore --kernel solo5 --harness examples/museum/missing_fence.c --sends 1 --buffers
 *
 * and with --define CURED. No order of whole instructions shows it: without --buffers nothing is
 * found, nor by whoever interleaves programs in Python.
 */
#include "explore.h"
#include "lower_half.h"

#ifdef CURED
#define fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#else
#define fence() barrier()	/* holds the compiler back, and not the processor */
#endif

static volatile uint64_t req_prod, req_event;
static volatile int fired;
static unsigned port;

void event(unsigned vcpu, unsigned which) { (void)vcpu, (void)which, fired = 1; }
int work(unsigned vcpu) { (void)vcpu; return fired; }

static void back(unsigned long vcpu)
{
	uint64_t taken = 0;

	for (;;) {
		lower_half_demux((unsigned)vcpu);
		if (fired) {
			fired = 0;
			lower_half_unmask(port);
		}
		if (taken != req_prod) {
			taken++;
			explore_see(0);
			continue;
		}
		req_event = taken + 1;
		fence();
		if (taken == req_prod)
			lower_half_block((unsigned)vcpu, 0);
	}
}

static void front(unsigned long argument)
{
	(void)argument;
	for (uint64_t request = 1; request <= explore_sends; request++) {
		explore_produce(0);
		req_prod = request;
		fence();
		if (req_event == request)
			explore_send(port);
	}
}

void explore_setup(void)
{
	explore_handler(lower_half_upcall);
	lower_half_start(0);
	port = explore_port(0);
	lower_half_bound(port, 0);
	lower_half_unmask(port);
	explore_agent("back", back, 0);
	explore_agent("front", front, 0);
}
