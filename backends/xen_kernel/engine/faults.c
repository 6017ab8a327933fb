/*
 * What a kernel may do to its process, made into a finding: it touches what is not mapped, overruns
 * its stack, divides by zero, or runs for ever without a step. The signal's handler puts the
 * engine's own stack in place of the kernel's, and the run at hand ends there.
 */
#define _GNU_SOURCE
#include "engine.h"

#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define TICK 50000	/* µs between two looks whether there was a step */
#define SPINNING 0.2	/* seconds of processor time without one */

static uint8_t for_signals[65536], for_leaving[65536] __attribute__((aligned(16)));
static volatile uint64_t steps_at_tick;
static double since;

/* Nothing can be explored. The words are for engine.py. */
void refuse(const char *said, uint64_t site)
{
	dprintf(2, "%s %lx %s\n", running ? "boot" : "engine", site, said);
	_exit(3);
}

static void leave(ucontext_t *context, enum wrong wrong, const char *said, uint64_t site)
{
	if (!stepping || !running || machine.wrong)
		refuse(said, site);
	machine.wrong = wrong;
	wrong_said = said;
	wrong_site = site;
	context->uc_mcontext.gregs[REG_RSP] = (greg_t)(for_leaving + sizeof for_leaving - 8);
	context->uc_mcontext.gregs[REG_RIP] = (greg_t)abandoned;
}

extern const uint8_t engine_begins[];	/* its code; the kernel's lies before it */

/* Where a kernel runs: what it is in, or where it has called the engine from. */
static uint64_t place(const ucontext_t *context)
{
	uint64_t at = (uint64_t)context->uc_mcontext.gregs[REG_RIP];

	return at < (uint64_t)engine_begins ? at : last_access;
}

/* Where a call to no code came from: the return address, if it lies on the stack. */
static uint64_t caller(const ucontext_t *context)
{
	uint64_t top = (uint64_t)context->uc_mcontext.gregs[REG_RSP];
	uint64_t base = (uint64_t)stack_base(machine.current);

	return top < base && top >= base - STACK ? *(uint64_t *)top - 1 : 0;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	uint64_t base = (uint64_t)stack_base(machine.current), at = (uint64_t)info->si_addr;
	uint64_t here = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];

	if (signal == SIGFPE)
		leave(context, CRASHED, "divides by zero", here);
	else if (signal == SIGILL || signal == SIGTRAP)
		leave(context, CRASHED, "runs into a trap (a BUG)", here);
	else if (at < base - STACK && at >= base - STACK - 65536)
		leave(context, OVERRUN, "overruns its stack of 64 KiB", here);
	else if (at == here)
		leave(context, OUTSIDE, "jumps to where there is no code", caller(context));
	else
		leave(context, OUTSIDE, "touches what is not mapped", here);
}

static void on_tick(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info;
	if (!running || steps != steps_at_tick) {
		steps_at_tick = steps;
		since = cpu_seconds();
	} else if (cpu_seconds() - since > SPINNING) {
		since = cpu_seconds();
		leave(context, SPINS, "runs on and on without a step that concerns anybody",
		      place(context));
	}
}

void faults_catch(void)
{
	stack_t stack = {.ss_sp = for_signals, .ss_size = sizeof for_signals};
	struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	struct sigaction tick = {.sa_sigaction = on_tick,
				 .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	struct itimerval every = {{0, TICK}, {0, TICK}};
	const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};

	sigaltstack(&stack, 0);
	for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
		sigaction(signals[i], &fault, 0);
	sigaction(SIGPROF, &tick, 0);
	setitimer(ITIMER_PROF, &every, 0);
}
