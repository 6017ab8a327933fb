/*
 * What a harness is written with: who takes part, what is produced, and what must have been seen.
 *
 * A harness gives `explore_setup`, which boots the kernel, without steps, and names who runs. Then
 * each of them takes its steps, in every order there is.
 */
#ifndef EXPLORE_H
#define EXPLORE_H

#include <stdint.h>

enum { UPCALL_VECTOR = 1, CALLBACK_VECTOR = 2, PV_UPCALL = 3 };

/* The scenario, as the command line has it. */
extern unsigned delivery;	/* one of those above */
extern unsigned explore_vcpus, explore_ports, explore_sends, explore_timer, explore_spread;
extern unsigned explore_passes;	/* within which a port is served that is pending; 0: however late */
extern unsigned explore_abi;	/* what Xen offers: 0 any, 1 two-level alone, 2 FIFO, to be asked for */

/* The harness's own. */
void explore_setup(void);

/* vCPU `vcpu` runs this. Every vCPU has to be given something, in order, before other agents. */
void explore_agent(const char *name, void (*run)(unsigned long), unsigned long argument);
/* Xen enters this for an upcall. */
void explore_handler(void (*upcall)(unsigned vcpu));
/* While it boots: which vCPU is it that boots now? */
void explore_on_vcpu(unsigned vcpu);
/* Sleep until this byte is not 0. For agents other than vCPUs. */
void explore_wait(const volatile uint8_t *until);

/* Ports and events: Xen's, as a peer's send, a timer or a toolstack causes them. */
unsigned explore_port(unsigned vcpu);		/* a new port, bound to this vCPU */
void explore_send(unsigned port);		/* an event for it */
void explore_timers(void);			/* the timers, as agents: they fire once they are set */
extern void (*explore_on_send)(unsigned port);	/* the guest has sent an event to its peer */

/* Items: one for each port, of which many may be produced. One that was never seen is lost. */
void explore_produce(unsigned item);
void explore_see(unsigned item);
uint64_t explore_seen(unsigned item);
/* What the harness wants to be told of an end, beside the page and what was seen. */
extern volatile uint64_t explore_notes[8];
/* A pass of a demux or a handler begins; an event was delivered, in which a port may be told once. */
void explore_pass(void);
void explore_delivered(unsigned port);

/* An assertion of the harness's, or the kernel's. */
void explore_wrong(int kind, const char *what);
#define EXPLORE_ASSERTION 6
#define explore_assert(what) ((what) ? (void)0 : explore_wrong(EXPLORE_ASSERTION, #what))

#endif
