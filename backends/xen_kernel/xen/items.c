/*
 * Items: what a peer produces before it sends an event, and what the guest has seen of it. At the
 * end of a run all that was produced must have been seen: all agents sleep, and no event will come.
 *
 * Passes: a port that is pending and not masked when one begins, and still when the next does, was
 * passed over, if others were served. It starves where that goes on.
 */
#include "engine.h"
#include "xen.h"

#define ITEMS 16

static volatile uint64_t produced[ITEMS], seen[ITEMS];	/* a word for each, for fewer steps */
volatile uint64_t explore_notes[8];
static uint64_t told[MAX_VCPUS][PORTS / 64];		/* in this pass */
static uint64_t waiting[PORTS];				/* as it began: 1, and passes before it */

static char text[256];

static unsigned known(unsigned item)
{
	if (item >= ITEMS)
		explore_wrong(NOT_MODELLED, "an item beyond the 16 that there are");
	return item % ITEMS;
}

void explore_produce(unsigned item)
{
	__atomic_fetch_add(&produced[known(item)], 1, __ATOMIC_SEQ_CST);
}

void explore_see(unsigned item)
{
	item = known(item);
	seen[item] = produced[item];
}

static int was_told(unsigned vcpu, unsigned port)
{
	return told[vcpu][port >> 6] >> (port & 63) & 1;
}

static int is_ready(unsigned port)
{
	return port_operations->is_pending(port) && !port_operations->is_masked(port);
}

static enum wrong starved(unsigned port);

static void look_who_waits(unsigned vcpu, int served)
{
	for (unsigned port = 1; port < ports_end; port++) {
		uint64_t now = 0;

		if (channel[port].state < INTERDOMAIN || channel[port].vcpu != vcpu)
			continue;
		if (cpu_look(is_ready, port)) {
			now = was_told(vcpu, port) || !waiting[port] ? 1 : waiting[port] + served;
			if (now > explore_passes)
				explore_wrong(starved(port), text);
		}
		if (waiting[port] != now)
			waiting[port] = now;
	}
}

void explore_pass(void)
{
	unsigned vcpu = this_vcpu(), words = (ports_end + 63) / 64;
	int served = 0;

	for (unsigned i = 0; i < words; i++)
		served |= told[vcpu][i] != 0;
	if (explore_passes)
		look_who_waits(vcpu, served);
	for (unsigned i = 0; i < words; i++)
		if (told[vcpu][i])
			told[vcpu][i] = 0;
}

void explore_delivered(unsigned port)
{
	uint64_t *word = &told[this_vcpu()][port % PORTS >> 6];

	if (port >= PORTS)
		explore_wrong(OUTSIDE, "delivers a port beyond the 4,096 that there are");
	if (was_told(this_vcpu(), port))
		explore_wrong(OVER_AND_OVER, "one pass delivers the same port twice");
	*word |= 1ul << (port & 63);
}

static char *put(char *to, const char *from)
{
	while (*from)
		*to++ = *from++;
	*to = 0;
	return to;
}

static char *put_number(char *to, uint64_t number)
{
	if (number > 9)
		to = put_number(to, number / 10);
	*to++ = (char)('0' + number % 10);
	*to = 0;
	return to;
}

static enum wrong starved(unsigned port)
{
	char *to = put_number(put(text, "port "), port);

	to = put_number(put(to, " is pending and not masked, and "), explore_passes);
	put(to, explore_passes == 1 ? " pass has served others" : " passes have served others");
	return STARVED;
}

static enum wrong lost_port(unsigned port)
{
	char *to = put_number(put(text, "vCPU "), channel[port].vcpu);

	to = put(to, " sleeps for good, and port ");
	put(put_number(to, port), " is pending and not masked");
	return LOST_WAKEUP;
}

static enum wrong lost_item(unsigned item)
{
	char *to = put_number(put(text, "the peer of port number "), item);

	to = put(put_number(put(to, " produced "), produced[item]), ", and the guest has seen ");
	put(put_number(to, seen[item]), " of them: it sleeps for good");
	return LOST_WAKEUP;
}

static enum wrong stands(unsigned agent)
{
	put(put(put(text, agent_name[agent]), " waits for something that will not happen"), "");
	return DEADLOCK;
}

enum wrong explore_end(const char **said)
{
	*said = text;
	for (unsigned i = 0; i < machine.agents; i++)
		if (machine.agent[i].state == WAITING && !is_timer(i))
			return stands(i);
	for (unsigned port = 1; port < ports_end; port++)
		if (channel[port].state != FREE && channel[port].state != UNBOUND &&
		    machine.agent[channel[port].vcpu].state == SLEEPING &&
		    port_operations->is_pending(port) && !port_operations->is_masked(port))
			return lost_port(port);
	for (unsigned item = 0; item < ITEMS; item++)
		if (seen[item] != produced[item])
			return lost_item(item);
	*said = "";
	return RIGHT;
}

/* The state of a port, for a look from outside. */
int explore_is_peers(unsigned port) { return channel[port].state == INTERDOMAIN; }
int explore_is_pending(unsigned port) { return port_operations->is_pending(port); }
int explore_is_masked(unsigned port) { return port_operations->is_masked(port); }

uint64_t explore_seen(unsigned item)
{
	return seen[known(item)];
}
