/* The search, as main.c asks for it. */
#ifndef SEARCH_H
#define SEARCH_H

#include "engine.h"

/* How a search ended. The names stand in engine.py too, in this order, but for the last two. */
enum ended {
	COMPLETE, FOUND, OUT_OF_TIME, OUT_OF_STATES, OUT_OF_MEMORY, INTERRUPTED, DIED,
	LEARNED,	/* it begins anew */
	GOING,
};

#define MAX_JOBS 64

struct limits {
	int bound;		/* preemptions; -1 for no bound */
	int every;		/* every schedule, rather than every state */
	int reduced;		/* only moves that are enough: reduce.c */
	int to_the_end;		/* go on though something was found */
	uint64_t states;
	double seconds;
};

/* A run, as the answers to its questions. */
struct answers { uint8_t *answer; uint32_t count, room; };

struct result {
	enum ended ended;
	enum wrong wrong;
	const char *said;
	uint64_t site;
	uint64_t states, runs, moves, depth;
	uint64_t given;		/* tasks, from one process to another */
	double seconds;
	struct answers way;	/* to what is wrong */
};

void search(const struct limits *limits, struct result *result);
void search_begun(double spent);	/* seconds, before this */
void run_begin(void);
void moves_to_answers(struct answers *way);
/* COMPLETE; OUT_OF_TIME where it goes on for ever; OUT_OF_STATES where an answer is not
 * among the options. */
enum ended replay(const struct answers *answers,
		  void (*before)(const struct question *, unsigned answer));
enum wrong run_end(const char **said);
extern void (*at_end)(void);	/* called wherever no agent can go on, lost or not */
extern void (*live)(const struct result *);	/* and now and then, if there is one */
extern volatile int interrupted;

/* reduce.c */
uint64_t reduce(const struct question *asked);

/* crew.c: processes that search together */
extern unsigned crew_jobs, crew_self;
void *common(size_t bytes);	/* memory that all of them see */
void common_clear(void *room, size_t bytes);
int take_lock(uint32_t *lock);	/* not, once the search has ended */
void leave_lock(uint32_t *lock);
void crew_begin(void);
void crew_fork(void);
void crew_join(struct result *result);
void crew_tell(const struct result *result, double seconds);
void crew_sum(struct result *result);
void crew_found(enum wrong wrong, const char *said, uint64_t site, const uint8_t *answers,
		uint32_t depth);
void crew_stop(enum ended how);
enum ended crew_ended(void);
int crew_waits(void);
int crew_give(const void *task, size_t size);
size_t crew_take(void *task, size_t room);
void crew_through(void);

/* seen.c: the states that were seen */
void seen_reset(void);
void seen_forget(void);
uint32_t seen_count(void);
uint64_t seen_bytes(void);
void seen_soon(uint64_t digest);	/* this one is visited next */
int seen_visit(uint64_t digest, uint8_t used, uint32_t *index);

/* graph.c: what leads where */
extern uint64_t graph_limit;	/* bytes, with those of seen.c */
extern int graph_full;
void graph_reset(int kept);
int graph_has_room(uint64_t bytes);
void graph_edge(uint32_t from, uint32_t to, uint8_t move);
void graph_end(uint32_t state);
int graph_stuck(struct answers *way);
void answers_put(struct answers *answers, uint32_t at, uint8_t answer);
#endif
