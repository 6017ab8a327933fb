/* The search, as main.c asks for it. */
#ifndef SEARCH_H
#define SEARCH_H

#include "engine.h"

enum ended { COMPLETE, FOUND, OUT_OF_TIME, OUT_OF_STATES, OUT_OF_MEMORY, INTERRUPTED };

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
	double seconds;
	struct answers way;	/* to what is wrong */
};

void search(const struct limits *limits, struct result *result);
void run_begin(void);
/* COMPLETE; OUT_OF_TIME where it goes on for ever; OUT_OF_STATES where an answer is no option. */
enum ended replay(const struct answers *answers,
		  void (*before)(const struct question *, unsigned answer));
enum wrong run_end(const char **said);
extern void (*at_end)(void);	/* called wherever nobody goes on, lost or not */
extern void (*live)(const struct result *, double seconds);	/* and now and then, if there is one */
extern volatile int interrupted;

/* reduce.c */
uint64_t reduce(const struct question *asked);

/* graph.c: the states that were seen, and what leads where */
extern uint64_t graph_limit;	/* bytes */
extern int graph_full;
void graph_reset(int kept);
uint32_t graph_count(void);
int graph_visit(uint64_t digest, uint8_t used, uint32_t *index);
void graph_edge(uint32_t from, uint32_t to, uint8_t answer);
void graph_end(uint32_t state);
int graph_stuck(struct answers *way);
void answers_put(struct answers *answers, uint32_t at, uint8_t answer);
#endif
