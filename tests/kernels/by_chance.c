/*
 * A scenario drawn by chance: the number of sends is its seed. vCPUs, their handler and peers each do
 * a few things with words that all of them see, and note what they have read; and so every order
 * that makes a difference to somebody is an end of its own. Whoever has done all of it sleeps, if it
 * is a vCPU. The same is drawn, and done, in tests/support/by_chance.py.
 */
#include "explore.h"
#include "lower_half.h"

unsigned this_vcpu(void); /* Xen's half has it */

#define WORDS 3
#define DEEDS 4

/* A peer does what is before OFF, a handler what is before SEND. */
enum deed { READ, WRITE, ADD, SEND, OFF, ON, CALL, SLEEP, NOTHING };

static volatile uint64_t word[WORDS];
static uint8_t deeds[16][DEEDS], objects[16][DEEDS];
static unsigned ports[4];
static uint64_t random_state;

static unsigned draw(unsigned most)
{
	random_state = random_state * 6364136223846793005ul + 1442695040888963407ul;
	return (unsigned)(random_state >> 40) % most;
}

static void draw_deeds(unsigned who, unsigned many, unsigned all)
{
	for (unsigned i = 0; i < DEEDS; i++) {
		deeds[who][i] = i < many ? (uint8_t)draw(all) : NOTHING;
		objects[who][i] = (uint8_t)draw(WORDS);
	}
}

/* By each, and by each handler. */
static void note(unsigned who, uint64_t read)
{
	explore_notes[who] = explore_notes[who] * 16 + 1 + read;
}

static void sleep(unsigned vcpu)
{
	upcalls_off(vcpu);
	if (own_info(vcpu)->evtchn_upcall_pending)
		upcalls_on(vcpu);
	else
		upcalls_sleep(vcpu);
}

static void act(unsigned who, unsigned vcpu, enum deed deed, unsigned object)
{
	switch (deed) {
	case READ: note(who, word[object]); break;
	case WRITE: word[object] = 1 + who; break;
	case ADD: note(who, __atomic_fetch_add(&word[object], 5, __ATOMIC_SEQ_CST)); break;
	case SEND: explore_send(ports[object % explore_vcpus]); break;
	case OFF: upcalls_off(vcpu); break;
	case ON: upcalls_on(vcpu); break;
	case CALL: hypercall(XEN_VERSION, 0, 0, 0); break;
	case SLEEP: sleep(vcpu); break;
	default: break;
	}
}

static void run(unsigned long who)
{
	for (unsigned i = 0; i < DEEDS; i++)
		act((unsigned)who, this_vcpu(), deeds[who][i], objects[who][i]);
	while (who < explore_vcpus)
		sleep((unsigned)who);
}

static void handler(unsigned vcpu)
{
	explore_pass();
	own_info(vcpu)->evtchn_upcall_pending = 0;
	if (delivery == BY_UPCALL_VECTOR)
		eoi();
	if (__atomic_exchange_n(&own_info(vcpu)->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST)) {
		clear_bit(shared_info.evtchn_pending, ports[vcpu]);
		explore_delivered(ports[vcpu]);
	}
	for (unsigned i = 0; i < 2; i++)
		act(4 + vcpu, vcpu, deeds[8 + vcpu][i], objects[8 + vcpu][i]);
	explore_pass();
}

void explore_setup(void)
{
	static const char *const names[] = {"one", "two", "three", "four", "five"};
	unsigned vcpus = explore_vcpus, all = vcpus + explore_ports;

	random_state = explore_sends * 2862933555777941757ul;
	explore_handler(handler);
	for (unsigned who = 0; who < all; who++) {
		if (who < vcpus) {
			ports[who] = explore_port(who);
			draw_deeds(8 + who, draw(3), SEND);
		}
		draw_deeds(who, 2 + draw(DEEDS - 1), who < vcpus ? NOTHING : OFF);
		explore_agent(names[who], run, who);
	}
}
