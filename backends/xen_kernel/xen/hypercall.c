/*
 * The hypercalls that event code makes, by their numbers (public/xen.h, event_channel.h, sched.h,
 * vcpu.h). Others succeed and do nothing where they register something, and are a finding where
 * they would have to answer: nothing is made up.
 *
 * Time stands still: a timer that is set may fire at any moment from then on.
 */
#include "engine.h"
#include "xen.h"

#define ENOENT (-2l)
#define EEXIST (-17l)
#define EINVAL (-22l)
#define ENOSPC (-28l)
#define ENOSYS (-38l)

enum { TWO_LEVEL_ALONE = 1, FIFO_ASKED_FOR };

struct channel channel[PORTS];
unsigned ports_end;
const struct port_operations *port_operations = &two_level;
struct shared_info shared_info;
unsigned explore_vcpus, explore_ports, explore_sends, explore_timer, explore_spread, delivery;
unsigned explore_abi, explore_passes;
void (*explore_on_send)(unsigned port);

static uint8_t timer_set[32];
static unsigned timers_begin, timers_end;	/* as agents */
static uint8_t polling[32];
static uint32_t polled[32];	/* one port, or 0 for any */

static int usable(uint32_t port)
{
	return port && port < PORTS && channel[port].state != FREE;
}

void unlock(volatile uint8_t *is_free)
{
	__atomic_store_n(is_free, 1, __ATOMIC_RELEASE);
}

void mark_events_pending(unsigned vcpu)
{
	if (__sync_fetch_and_or(&shared_info.vcpu_info[vcpu].evtchn_upcall_pending, 1))
		return;
	cpu_kick(vcpu);
}

void wake_pollers(unsigned port)
{
	for (unsigned vcpu = 0; vcpu < explore_vcpus; vcpu++)
		if (polling[vcpu] && (!polled[vcpu] || polled[vcpu] == port)) {
			polling[vcpu] = 0;
			cpu_kick(vcpu);
		}
}

static unsigned free_port(void)
{
	for (unsigned port = 1; port < PORTS; port++)
		if (channel[port].state == FREE)
			return port;
	return 0;
}

static long bind(unsigned port, enum channel_state state, unsigned vcpu, uint32_t *answer)
{
	if (!port)
		return ENOSPC;
	channel[port].state = state;
	channel[port].vcpu = (uint8_t)vcpu;
	if (port >= ports_end)
		ports_end = port + 1;
	*answer = port;
	return 0;
}

/* Ports of one word, or each of a word of its own. */
unsigned explore_port(unsigned vcpu)
{
	static unsigned many;
	uint32_t port = 0;

	if (vcpu >= explore_vcpus)
		explore_wrong(NOT_MODELLED, "a port of a vCPU that there is not");
	bind(explore_spread ? ++many * 64 : free_port(), INTERDOMAIN, vcpu, &port);
	return port;
}

void explore_send(unsigned port)
{
	if (usable(port) && channel[port].state != UNBOUND)
		port_operations->set_pending(port);
}

static long bind_virq(uint32_t *arg)
{
	if (arg[0] >= 24)
		return EINVAL;
	if (arg[1] >= explore_vcpus)
		return ENOENT;
	for (unsigned port = 1; port < PORTS; port++)
		if (channel[port].state == VIRQ && channel[port].virq == arg[0] &&
		    channel[port].vcpu == arg[1])
			return EEXIST;
	channel[free_port()].virq = (uint8_t)arg[0];
	return bind(free_port(), VIRQ, arg[1], &arg[2]);
}

static long send(uint32_t port)
{
	if (!usable(port))
		return EINVAL;
	if (channel[port].state == IPI)
		port_operations->set_pending(port);
	else if (channel[port].state != INTERDOMAIN && channel[port].state != UNBOUND)
		return EINVAL;
	else if (explore_on_send)
		explore_on_send(port);
	return 0;
}

static long close_port(uint32_t port)
{
	if (!usable(port))
		return EINVAL;
	port_operations->clear_pending(port);
	channel[port].state = FREE;
	return 0;
}

static long event_channel(unsigned operation, uint32_t *arg)
{
	long answer;

	switch (operation) {
	case 0:		/* bind_interdomain: the new port is pending once */
		answer = bind(free_port(), INTERDOMAIN, 0, &arg[2]);
		if (!answer)
			port_operations->set_pending(arg[2]);
		return answer;
	case 1:
		return bind_virq(arg);
	case 3:
		return close_port(arg[0]);
	case 4:
		return send(arg[0]);
	case 6:
		return bind(free_port(), UNBOUND, 0, &arg[1]);
	case 7:
		return arg[0] < explore_vcpus ? bind(free_port(), IPI, arg[0], &arg[1]) : ENOENT;
	case 8:
		if (arg[1] >= explore_vcpus)
			return ENOENT;
		if (!usable(arg[0]) || channel[arg[0]].state == IPI)
			return EINVAL;
		channel[arg[0]].vcpu = (uint8_t)arg[1];
		return 0;
	case 9:
		if (!arg[0] || arg[0] >= PORTS)
			return EINVAL;
		if (channel[arg[0]].state != FREE)
			port_operations->unmask(arg[0]);
		return 0;
	case 11:
		if (explore_abi == TWO_LEVEL_ALONE)
			return ENOSYS;
		answer = fifo_init_control(*(uint64_t *)arg, arg[2], arg[3]);
		if (!answer)
			((uint8_t *)arg)[16] = 17;
		return answer;
	case 12:
		return fifo_expand_array(*(uint64_t *)arg);
	case 13:
		if (port_operations != &fifo)
			return ENOSYS;
		if (arg[1] > 15 || !usable(arg[0]))
			return EINVAL;
		channel[arg[0]].priority = (uint8_t)arg[1];
		return 0;
	default:
		explore_wrong(NOT_MODELLED, "an event channel operation that is not modelled");
		return ENOSYS;
	}
}

static long poll(const uint32_t *arg)
{
	const uint32_t *ports = *(const uint32_t *const *)arg;
	unsigned vcpu = this_vcpu(), many = arg[2];

	if (many > 128)
		return EINVAL;
	if (*(const uint64_t *)&arg[4]) {
		explore_wrong(NOT_MODELLED, "SCHEDOP_poll with a time-out is not modelled");
		return ENOSYS;
	}
	polled[vcpu] = many == 1 ? ports[0] : 0;
	__sync_fetch_and_or(&polling[vcpu], 1);	/* seen before it looks */
	for (unsigned i = 0; i < many; i++) {
		if (!usable(ports[i]))
			return EINVAL;
		if (port_operations->is_pending(ports[i])) {
			polling[vcpu] = 0;
			return 0;
		}
	}
	cpu_block();
	polling[vcpu] = 0;
	return 0;
}

static long schedule(unsigned operation, uint32_t *arg)
{
	unsigned vcpu = this_vcpu();

	switch (operation) {
	case 0:
		return 0;
	case 1:
		if (delivery == PV_UPCALL)
			shared_info.vcpu_info[vcpu].evtchn_upcall_mask = 0;
		cpu_block();
		return 0;
	case 3:
		return poll(arg);
	default:
		explore_wrong(NOT_MODELLED, "a SCHEDOP that is not modelled");
		return ENOSYS;
	}
}

/* What each number answers. What registers handlers and pages succeeds; the engine knows them. */
long engine_hypercall(unsigned number, uint64_t one, uint64_t two, uint64_t three)
{
	unsigned vcpu = this_vcpu();
	long answer = 0;

	(void)three;
	cpu_enter_xen();
	switch (number) {
	case 12:	/* memory_op */
	case 17:	/* xen_version: Xen looks for events on the way back */
	case 34:	/* hvm_op */
		break;
	case 15:	/* set_timer_op */
		timer_set[vcpu] = one != 0;
		break;
	case 24:	/* vcpu_op: singleshot 8 and 9, register_vcpu_info 10 and others */
		if (two >= explore_vcpus)
			answer = ENOENT;
		else if (one == 8 || one == 9)
			timer_set[two] = one == 8;
		break;
	case 29:
		answer = schedule((unsigned)one, (uint32_t *)two);
		break;
	case 32:
		answer = event_channel((unsigned)one, (uint32_t *)two);
		break;
	default:
		explore_wrong(NOT_MODELLED, "a hypercall that is not modelled");
	}
	cpu_leave_xen();
	return answer;
}

/* Whether the kernel, now that it has booted, uses the ABI that it has to. */
int explore_abi_as_asked(void)
{
	return explore_abi != FIFO_ASKED_FOR || port_operations == &fifo;
}

/* A vCPU's timer, as an agent: it may fire as soon as it is set. */
static void timer(unsigned long vcpu)
{
	for (;;) {
		explore_wait(&timer_set[vcpu]);
		timer_set[vcpu] = 0;
		for (unsigned port = 1; port < PORTS; port++)
			if (channel[port].state == VIRQ && channel[port].virq == VIRQ_TIMER &&
			    channel[port].vcpu == vcpu) {
				port_operations->set_pending(port);
				break;
			}
	}
}

void explore_timers(void)
{
	static const char *const names[] = {"timer 0", "timer 1", "timer 2", "timer 3"};

	timers_begin = machine.agents;
	for (unsigned vcpu = 0; vcpu < explore_vcpus; vcpu++)
		explore_agent(names[vcpu], timer, vcpu);
	timers_end = machine.agents;
}

int is_timer(unsigned agent)
{
	return agent >= timers_begin && agent < timers_end;
}
