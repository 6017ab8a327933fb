/* A lower half for one vCPU on the two-level ABI: Solo5's in C, and its four faults of June 2020.
 *
 * It needs cpu.h and hypercall.h, and `shared_info`, mapped. Who uses it, one turn after the other:
 *
 *	count = lower_half_demux(ports, most);	each comes back masked, its pending bit cleared
 *	lower_half_unmask(port);		for each, before whoever waits for it runs
 *	lower_half_block(deadline);		if there was none
 *
 * and enters lower_half_upcall() from the handler of its upcalls, which makes the EOI.
 */
#ifndef PROBE_LOWER_HALF_H
#define PROBE_LOWER_HALF_H

#include <stdint.h>

enum {
	UNMASK_TESTS_MASK = 1 << 1,
	HANDLER_CLEARS = 1 << 2,
	DEMUX_LEAVES_UNMASKED = 1 << 3,
	SLEEPS_WITH_INTERRUPTS_ON = 1 << 4,
};

extern unsigned int faults;	/* those that it has now; 0 for the one that is right */
extern int level;		/* upcalls come by the callback vector, not by the upcall vector */

void lower_half_upcall(void);
unsigned int lower_half_demux(uint32_t *ports, unsigned int most);
void lower_half_unmask(uint32_t port);
void lower_half_block(uint64_t deadline);

#endif
