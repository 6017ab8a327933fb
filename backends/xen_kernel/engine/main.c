/*
 * What Python asks, as arguments, and the answers, a JSON object on a line each (engine.py).
 *
 *     explored search NAME=NUMBER...      a result
 *     explored replay NAME=NUMBER... way=0,0,2,...    a line for each move, then a result
 *
 *     delivery, vcpus, ports, sends, timer, spread    the scenario
 *     order       in which others see stores: enum processor
 *     bound, every, reduced, states, seconds, memory, goes_on    see search.h; memory is in bytes
 *     ends        also tell every different end
 *     live        and how far it is, now and then
 *     jobs        processes that search
 *     abi, passes    see explore.h
 *     shared      words that are known to be shared, as hexadecimal addresses: a,b,c
 */
#define _GNU_SOURCE
#include "search.h"

#include "explore.h"
#include "shared_info.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define MOST_PORTS 512	/* that a scenario has */

static struct limits limits = {.bound = -1, .states = 200000000, .seconds = 3600};
static struct answers given;
static const char *known = "";
static int tell_ends;

static void read_list(const char *text, int base, void (*put)(uint64_t))
{
	char *after;

	for (; *text; text = *after ? after + 1 : after)
		put(strtoul(text, &after, base));
}

static void put_answer(uint64_t answer)
{
	answers_put(&given, given.count, (uint8_t)answer);
}

/* The states on the search's path are few, beside what is kept of all. */
static void divide_memory(uint64_t bytes)
{
	arena_limit = bytes / 8;
	graph_limit = bytes - arena_limit;
}

static void tell_live(const struct result *result)
{
	printf("{\"at\": true, \"states\": %lu, \"runs\": %lu, \"moves\": %lu, \"depth\": %lu, "
	       "\"seconds\": %f}\n", result->states, result->runs, result->moves, result->depth,
	       result->seconds);
	fflush(stdout);
}

static void read_argument(const char *name, const char *value)
{
	uint64_t number = strtoul(value, 0, 10);

	if (!strcmp(name, "delivery"))
		delivery = machine.delivery = (uint8_t)number;
	else if (!strcmp(name, "vcpus"))
		explore_vcpus = machine.vcpus = (uint8_t)number;
	else if (!strcmp(name, "ports"))
		explore_ports = (unsigned)number;
	else if (!strcmp(name, "sends"))
		explore_sends = (unsigned)number;
	else if (!strcmp(name, "timer"))
		explore_timer = (unsigned)number;
	else if (!strcmp(name, "spread"))
		explore_spread = (unsigned)number;
	else if (!strcmp(name, "passes"))
		explore_passes = (unsigned)number;
	else if (!strcmp(name, "abi"))
		explore_abi = (unsigned)number;
	else if (!strcmp(name, "order"))
		machine.order = (uint8_t)number;
	else if (!strcmp(name, "bound"))
		limits.bound = atoi(value);
	else if (!strcmp(name, "every"))
		limits.every = (int)number;
	else if (!strcmp(name, "reduced"))
		limits.reduced = (int)number;
	else if (!strcmp(name, "goes_on"))
		limits.to_the_end = (int)number;
	else if (!strcmp(name, "states"))
		limits.states = number;
	else if (!strcmp(name, "seconds"))
		limits.seconds = atof(value);
	else if (!strcmp(name, "memory"))
		divide_memory(number);
	else if (!strcmp(name, "ends"))
		tell_ends = (int)number;
	else if (!strcmp(name, "live"))
		live = number ? tell_live : 0;
	else if (!strcmp(name, "jobs"))
		crew_jobs = (unsigned)number;
	else if (!strcmp(name, "shared"))
		known = value;
	else if (!strcmp(name, "way"))
		read_list(value, 10, put_answer);
}

#define MOST_ENDS (1ul << 24)

/* Ends that are different, by their memory: a table, where 0 is none. */
static struct { uint32_t lock, different; uint64_t digest[2 * MOST_ENDS]; } *ends;

static int is_new(uint64_t digest)
{
	uint64_t key = digest ? digest : 1, at = key % (2 * MOST_ENDS);

	for (; ends->digest[at]; at = (at + 1) % (2 * MOST_ENDS))
		if (ends->digest[at] == key)
			return 0;
	if (ends->different < MOST_ENDS) {
		ends->digest[at] = key;
		ends->different++;
	}
	return 1;
}

/* A line for the end at hand. */
static void tell_end(uint64_t digest)
{
	stepping = 0;	/* a look does not count as a step */
	printf("{\"end\": \"%016lx\", \"ports\": {", digest);
	for (unsigned port = 1, many = 0; port < MOST_PORTS; port++)
		if (explore_is_peers(port))
			printf("%s\"%u\": [%d, %d]", many++ ? ", " : "", port,
			       explore_is_pending(port), explore_is_masked(port));
	printf("}, \"vcpus\": [");
	for (unsigned i = 0; i < explore_vcpus; i++)
		printf("%s[%d, %d, %lu]", i ? ", " : "",
		       shared_info.vcpu_info[i].evtchn_upcall_pending,
		       shared_info.vcpu_info[i].evtchn_upcall_mask,
		       shared_info.vcpu_info[i].evtchn_pending_sel);
	printf("], \"seen\": [");
	for (unsigned i = 0; i < explore_ports; i++)
		printf("%s%lu", i ? ", " : "", explore_seen(i));
	printf("], \"notes\": [");
	for (unsigned i = 0; i < 8; i++)
		printf("%s%lu", i ? ", " : "", explore_notes[i]);
	printf("]}\n");
	fflush(stdout);
	stepping = 1;
}

static void end_reached(void)
{
	uint64_t digest = memory_digest();

	if (!take_lock(&ends->lock))
		return;
	if (is_new(digest) && tell_ends)
		tell_end(digest);
	leave_lock(&ends->lock);
}

/* The moves that a run makes, as it makes them. */
static void tell_move(const struct question *asked, unsigned answer)
{
	unsigned agent = asked->moves[answer] / MOVES, what = asked->moves[answer] % MOVES;
	const struct agent *doing = &machine.agent[agent];
	int plain = what == GO;

	printf("{\"agent\": %u, \"kind\": %u, \"address\": %lu, \"size\": %u, \"site\": %lu, "
	       "\"handler\": %u, \"answer\": %u, \"preempts\": %u, \"options\": [", agent,
	       plain ? doing->kind : what == DELIVER ? STEP_DELIVER : STEP_STORED,
	       plain ? doing->address : what == DELIVER ? 0 : buffer[agent][what - STORED].address, doing->size,
	       plain ? doing->site : 0, agent < machine.vcpus ? machine.vcpu[agent].handlers : 0,
	       answer, asked->preempts);
	for (unsigned i = 0; i < asked->count; i++)
		printf("%s%u", i ? ", " : "", asked->moves[i]);
	printf("]}\n");
}

/* A text of the harness's, as JSON has it. What is no ASCII goes as it is: engine.py reads UTF-8. */
static void tell_text(const char *before, const char *text)
{
	printf("%s\"", before);
	for (; *text; text++)
		if (*text == '"' || *text == '\\' || (uint8_t)*text < ' ')
			printf("\\u%04x", *text);
		else
			putchar(*text);
	putchar('"');
}

static void tell(const struct result *result)
{
	printf("{\"result\": %d, \"wrong\": %d, \"site\": %lu, \"states\": %lu, \"runs\": %lu, "
	       "\"moves\": %lu, \"depth\": %lu, \"seconds\": %f, \"ends\": %u, \"given\": %lu",
	       result->ended, result->wrong, result->site, result->states, result->runs,
	       result->moves, result->depth, result->seconds, ends->different, result->given);
	tell_text(", \"said\": ", result->wrong ? result->said : "");
	printf(", \"agents\": [");
	for (unsigned i = 0; i < machine.agents; i++)
		tell_text(i ? ", " : "", agent_name[i]);
	printf("], \"shared\": [");
	for (uint32_t i = 0, many = 0; i < memory_words; i++)
		if (memory_shared(i))
			printf("%s%lu", many++ ? ", " : "", (uint64_t)&memory[i]);
	printf("], \"way\": [");
	for (uint32_t i = 0; i < result->way.count; i++)
		printf("%s%u", i ? ", " : "", result->way.answer[i]);
	printf("]}\n");
}

/* Ctrl-C: what was covered is told. */
static void on_interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
	crew_stop(INTERRUPTED);
}

/* The engine is started with signals held back: a Ctrl-C that comes before this is taken here. */
static void take_interrupts(void)
{
	sigset_t none;

	signal(SIGINT, on_interrupt);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, 0);
}

int main(int count, char **argument)
{
	struct result result = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	take_interrupts();
	divide_memory(3ul << 30);
	mmap((void *)0xfee00000, 4096, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	for (int i = 2; i < count; i++) {
		char *is = strchr(argument[i], '=');

		*is = 0;
		read_argument(argument[i], is + 1);
	}
	arena_limit /= crew_jobs;
	memory_init();
	cpu_init();
	ends = common(sizeof *ends);
	read_list(known, 16, memory_share);
	memory_keep();
	faults_catch();
	if (!strcmp(argument[1], "replay")) {
		result.ended = replay(&given, tell_move);
		result.wrong = machine.wrong ? (enum wrong)machine.wrong : run_end(&wrong_said);
		if (result.ended == OUT_OF_TIME)
			result.wrong = LIVELOCK;
		result.said = wrong_said;
		result.site = wrong_site;
	} else {
		at_end = end_reached;
		search(&limits, &result);
	}
	tell(&result);
	return 0;
}
