/*
 * A crew: processes that search together. They are forked where a search begins, and share the
 * states that were seen (seen.c), what leads where (graph.c), what is learned of words (memory.c),
 * and what was found. The process that comes to a state first goes on from there; so each state
 * is gone on from by one of them.
 *
 * Who has nothing to do waits for a message. Who sees that somebody waits gives away the oldest
 * place on its path where moves are left, all of them: the place, and the answers that lead there
 * (search.c). When no task is left that is not through, every state was seen; that, or whatever
 * else ends a search, is told to all who wait. If a process dies, its task is lost, and so is the
 * claim that everything was covered: the search ends.
 */
#define _GNU_SOURCE
#include "search.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONGEST (1ul << 26)	/* answers of a run */

unsigned crew_jobs = 1, crew_self;

/* What one of them has done. */
struct job { uint64_t runs, moves, depth; double seconds; } __attribute__((aligned(64)));

static struct crew {
	int ended;					/* enum ended */
	int waiting __attribute__((aligned(64)));	/* for a task; none is on its way to them */
	int tasks __attribute__((aligned(64)));		/* that are not through */
	uint64_t given;					/* tasks that were given away */
	uint32_t finding;				/* its lock */
	enum wrong wrong;
	uint32_t depth;
	uint64_t site;
	char said[512];
	struct job job[MAX_JOBS];
} *crew;

static uint8_t *way;	/* to what is wrong */
static int from, to;	/* messages: a task, or a byte: it has ended. 0 where none waits */

void *common(size_t bytes)
{
	int shared = crew_jobs > 1 ? MAP_SHARED : MAP_PRIVATE;
	void *room = mmap(0, bytes, PROT_READ | PROT_WRITE,
			  shared | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED) {
		dprintf(2, "engine there are no %zu bytes of addresses", bytes);
		_exit(3);
	}
	return room;
}

void common_clear(void *room, size_t bytes)
{
	madvise(room, bytes, crew_jobs > 1 ? MADV_REMOVE : MADV_DONTNEED);
}

int take_lock(uint32_t *lock)
{
	while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE)) {
		if (crew_ended() != GOING)
			return 0;	/* who has it may be dead */
		sched_yield();
	}
	return 1;
}

void leave_lock(uint32_t *lock)
{
	__atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

enum ended crew_ended(void)
{
	return (enum ended)__atomic_load_n(&crew->ended, __ATOMIC_ACQUIRE);
}

/* What ends a search first is how it has ended. A signal's handler calls this too. */
void crew_stop(enum ended how)
{
	int going = GOING, before = errno;

	if (crew && __atomic_compare_exchange_n(&crew->ended, &going, (int)how, 0,
						__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		for (unsigned i = 1; to && i < crew_jobs; i++)
			send(to, "", 1, MSG_NOSIGNAL);
	errno = before;
}

static void look_at(int status)
{
	if (status)
		crew_stop(DIED);
}

static void on_child(int signal)
{
	int status, before = errno;

	(void)signal;
	while (waitpid(-1, &status, WNOHANG) > 0)
		look_at(status);
	errno = before;
}

/* Somebody begins alone, with a task at hand: the beginning of all runs. */
void crew_begin(void)
{
	if (!crew) {
		crew = common(sizeof *crew);
		way = common(LONGEST);
	}
	crew->waiting = 0;
	crew->tasks = 1;
	crew->finding = 0;
	crew->wrong = RIGHT;
	for (unsigned i = 0; i < crew_jobs; i++)
		crew->job[i].runs = crew->job[i].depth = 0;
	__atomic_store_n(&crew->ended, GOING, __ATOMIC_SEQ_CST);
	if (interrupted)
		crew_stop(INTERRUPTED);
}

static void join_in(unsigned self, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	crew_self = self;
	signal(SIGCHLD, SIG_DFL);
	faults_catch();		/* a timer is its own process's */
	steps = crew->job[self].moves;
	search_begun(crew->job[self].seconds);
}

/* The others join in, each here. A crew that is not complete searches all the same. */
void crew_fork(void)
{
	pid_t parent = getpid();
	int pair[2];

	if (crew_jobs == 1 || crew_ended() != GOING || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
		return;
	from = pair[0];
	to = pair[1];
	signal(SIGCHLD, on_child);
	fflush(stdout);
	for (unsigned i = 1; i < crew_jobs && !crew_self; i++)
		if (!fork())
			join_in(i, parent);
}

void crew_tell(const struct result *result, double seconds)
{
	crew->job[crew_self] = (struct job){result->runs, steps, result->depth, seconds};
}

/* All of them together; the seconds are of the process that has spent the most. */
void crew_sum(struct result *result)
{
	result->runs = result->moves = result->depth = 0;
	result->seconds = 0;
	for (unsigned i = 0; i < crew_jobs; i++) {
		const struct job *job = &crew->job[i];

		result->runs += job->runs;
		result->moves += job->moves;
		result->depth = job->depth > result->depth ? job->depth : result->depth;
		result->seconds = job->seconds > result->seconds ? job->seconds : result->seconds;
	}
	result->states = seen_count();
	result->given = crew->given;
}

/* The others end here, and who began goes on alone, with what all of them have come to. */
void crew_join(struct result *result)
{
	int status;

	if (crew_self)
		_exit(0);
	if (to) {
		signal(SIGCHLD, SIG_DFL);
		while (waitpid(-1, &status, 0) > 0 || errno == EINTR)
			look_at(status);
		close(from);
		close(to);
		to = 0;
	}
	crew_sum(result);
	result->ended = crew_ended();
	result->wrong = crew->wrong;
	result->said = crew->said;
	result->site = crew->site;
	result->way.count = 0;
	for (uint32_t i = 0; crew->wrong && i < crew->depth; i++)
		answers_put(&result->way, i, way[i]);
}

/* The first that is found is told. */
void crew_found(enum wrong wrong, const char *said, uint64_t site, const uint8_t *answers,
		uint32_t depth)
{
	if (!take_lock(&crew->finding))
		return;
	if (!crew->wrong && depth <= LONGEST) {
		crew->depth = depth;
		crew->site = site;
		snprintf(crew->said, sizeof crew->said, "%s", said);
		memcpy(way, answers, depth);
		crew->wrong = wrong;
	}
	leave_lock(&crew->finding);
}

int crew_waits(void)
{
	return __atomic_load_n(&crew->waiting, __ATOMIC_RELAXED) > 0;
}

/* To somebody who waits, if there still is one. */
int crew_give(const void *task, size_t size)
{
	int waiting = __atomic_load_n(&crew->waiting, __ATOMIC_RELAXED);

	if (waiting <= 0 ||
	    !__atomic_compare_exchange_n(&crew->waiting, &waiting, waiting - 1, 0,
					 __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		return 0;
	__atomic_fetch_add(&crew->tasks, 1, __ATOMIC_SEQ_CST);
	if (send(to, task, size, MSG_NOSIGNAL) == (ssize_t)size) {
		__atomic_fetch_add(&crew->given, 1, __ATOMIC_RELAXED);
		return 1;
	}
	__atomic_fetch_sub(&crew->tasks, 1, __ATOMIC_SEQ_CST);	/* the giver's own is left */
	__atomic_fetch_add(&crew->waiting, 1, __ATOMIC_SEQ_CST);
	return 0;
}

void crew_through(void)
{
	if (!__atomic_sub_fetch(&crew->tasks, 1, __ATOMIC_SEQ_CST))
		crew_stop(COMPLETE);
}

/* A task's size; 0 once the search has ended. */
size_t crew_take(void *task, size_t room)
{
	ssize_t got;

	if (crew_ended() != GOING)
		return 0;
	__atomic_fetch_add(&crew->waiting, 1, __ATOMIC_SEQ_CST);
	do
		got = recv(from, task, room, 0);
	while (got < 0 && errno == EINTR && crew_ended() == GOING);
	return got > 1 && crew_ended() == GOING ? (size_t)got : 0;
}
