/*
 * The engine: agents that take steps, and a search through every order in which they can.
 *
 *     agents.c   agents on stacks of their own; a step gives the turn away
 *     memory.c   what the compiler tells of each access
 *     shared.c   which words are shared is learned
 *     cpu.c      vCPUs: interrupts, halting, the local APIC's two bits
 *     buffers.c  stores that others do not see yet: x86's order, arm64's
 *     states.c   a state: its copy and its digest
 *     seen.c     the table of those that were seen
 *     graph.c    what leads where; livelocks
 *     runs.c     one run: its questions, and its moves
 *     search.c   every state once; or every schedule
 *     crew.c     processes that search together
 *     reduce.c   which moves are enough, where others come to the same
 *     faults.c   what a kernel may do to its process, made into a finding
 *     main.c     what Python asks, and the answers
 *
 * This half is compiled plainly. The kernel, the harness and Xen's half are compiled with
 * -fsanitize=thread, so that the compiler announces each of their accesses to us.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include <stddef.h>
#include <stdint.h>

#define MAX_AGENTS 12
#define MAX_VCPUS 4
#define MAX_BUFFERED 4
#define MAX_MOVES (MOVES * MAX_AGENTS)
#define STACK (64 << 10)

/* What a step is. The names stand in engine.py too, in this order. */
enum kind {
	STEP_READ, STEP_WRITE, STEP_LOCKED, STEP_FENCE, STEP_CLI, STEP_HLT, STEP_BLOCK,
	STEP_HYPERCALL, STEP_RAISE, STEP_WAIT, STEP_RETURN, STEP_DELIVER, STEP_STORED, STEP_WFI, STEP_NONE,
};

/* What a run did wrong. The names stand in engine.py too, in this order. */
enum wrong {
	RIGHT, LOST_WAKEUP, REENTERED, ASLEEP_DEAF, OVER_AND_OVER, STARVED, ASSERTION, LIVELOCK,
	DEADLOCK, SPINS, OVERRUN, OUTSIDE, CRASHED, NOT_MODELLED,
};

/* How a move is numbered: MOVES * agent, and this. STORED and up is one of its stores. In engine.py
 * too. */
enum move { GO, DELIVER, STORED, MOVES = STORED + MAX_BUFFERED };

/* In which order others see what an agent writes: as it is written, or by buffers.c. */
enum processor { IN_ORDER, X86_BUFFERS, ARM64_ORDER };

/* How strong an access is, as far as its source says. FULL is a barrier on both of its sides; of a
 * read, the acquire that comes after releases. */
enum order { ORDER_RELAXED, ORDER_RELEASE, ORDER_FULL };

enum agent_state { READY, SLEEPING, WAITING, DONE };

/* How a vCPU sleeps. */
enum sleep { AWAKE, HALTED, BLOCKED, WAITS };

struct agent {
	void *stack_pointer;
	const volatile uint8_t *until;	/* WAITING: for this to be other than 0 */
	uint64_t address;		/* of what the next step is about */
	uint64_t site;			/* where in the code */
	uint8_t state, kind, size;
	uint8_t order;			/* of the next step, enum order */
	uint8_t group;			/* store barriers since its oldest store in the buffer */
	uint8_t whole;			/* in the midst of an instruction: no interrupt comes */
	uint8_t first_half;		/* its next step is the first half of one instruction */
	uint8_t pad;
};

struct vcpu {
	uint8_t interrupts, shadow;	/* the flag; and sti's shadow */
	uint8_t requested, in_service;	/* IRR and ISR of the upcall's vector */
	uint8_t asleep, kicked;
	uint8_t handlers;		/* that run, one in another */
	uint8_t in_xen;
};

/* A store that no other processor sees yet. */
struct buffered {
	uint64_t address, value;
	uint8_t size, group, release, exclusive, pad[4];
};

/* All of a state that is neither the kernel's memory nor a stack. */
struct machine {
	uint8_t current, agents, vcpus, wrong;
	uint8_t take;			/* the agent that goes on takes an interrupt first */
	uint8_t delivery, order, pad;	/* order: enum processor */
	uint8_t buffered[MAX_AGENTS], pad2[4];
	struct vcpu vcpu[MAX_VCPUS];
	struct agent agent[MAX_AGENTS];
};

extern struct machine machine;
extern struct buffered buffer[MAX_AGENTS][MAX_BUFFERED];
extern const char *agent_name[MAX_AGENTS];
extern const char *wrong_said;		/* of the run that is at hand */
extern uint64_t wrong_site;
extern int stepping;			/* whether steps are taken; not while a kernel boots */
extern uint64_t steps;

/* agents.c */
void agent_add(const char *name, void (*run)(unsigned long), unsigned long argument);
extern volatile int running;		/* the kernel's code, not ours */
void resume(unsigned agent);
void yield(void);
void step(enum kind kind, uint64_t address, unsigned size, uint64_t site);
void step_in_order(enum kind kind, enum order order, uint64_t address, unsigned size, uint64_t site);
void fence(uint64_t site);		/* a full barrier, where it has something to wait for */
void abandoned(void) __attribute__((noreturn));
void fail(enum wrong wrong, const char *said, uint64_t site) __attribute__((noreturn));
void stacks_reset(void);
uint8_t *stack_base(unsigned agent);
extern void *scheduler_stack_pointer;

/* memory.c */
extern uint64_t *memory;		/* the kernel's words */
extern uint32_t memory_words;
extern uint32_t *written, written_count;	/* words that were ever written */
extern uint64_t *booted;		/* as the words were when the run began */
extern uint64_t last_access;		/* its site */
void memory_init(void);
void memory_keep(void);			/* this is what is to be there before a boot */
void memory_reset(void);		/* as before the boot */
void memory_booted(void);		/* the run begins here */
int memory_index(uint64_t address);
void memory_written(uint32_t word);	/* it is a part of states from now on */
void keep_written(uint32_t word);
void memory_wrote(void *address);	/* the engine itself wrote there, */
void memory_touch(const volatile void *address);	/* or read and wrote for who runs */

/* shared.c */
#define LONG 255			/* bytes of an access, or more */
extern int learned_more;
extern int learn_contexts;		/* also who accesses what is shared */
void shared_init(void);
void memory_share(uint64_t address);
int memory_shared(uint32_t word);	/* as it was known when the run began */
void memory_learned(void);		/* what was learned holds from now on */
int learn(uint32_t word, enum kind kind);	/* who runs accesses it; whether it is shared */
int learn_access(uint32_t word, enum kind kind);
int learn_bits(uint32_t *of, uint32_t bits);	/* whether one is new */
int learn_some(uint32_t *of, uint32_t bits);
uint32_t memory_context(void);		/* the bit of the one that runs */
uint32_t memory_contexts(uint64_t address, unsigned size, enum kind kind);

/* buffers.c */
int buffers_let(unsigned agent);
int buffers_let_interrupt(unsigned agent);
int buffers_let_leave(unsigned agent, unsigned nth);
int buffers_hold(void);
void buffers_store_barrier(void);
void buffers_leave(unsigned agent, unsigned nth);
void buffers_step(unsigned agent);

/* cpu.c */
int deliverable(unsigned vcpu);
int can_go(unsigned vcpu);
void take_interrupt(void);
extern void (*upcall_handler)(unsigned vcpu);
extern uint32_t *cpu_raisers;		/* by vCPU: contexts that have raised an upcall for it */
extern uint32_t *cpu_upcall_counts;
void cpu_init(void);
void upcall_counts(void);

/* states.c */
extern uint64_t arena_limit;
size_t state_save(void);		/* the copy's place; NO_ROOM */
void state_load(size_t at);
void arena_cut(size_t at);
uint64_t state_digest(int with_current);
uint64_t memory_digest(void);
#define NO_ROOM ((size_t)-1)

/* search.c */
struct question { uint8_t count, current, preempts, moves[MAX_MOVES]; };
void question(struct question *asked);
void move(unsigned move);

double cpu_seconds(void);

/* faults.c */
void faults_catch(void);
void refuse(const char *said, uint64_t site) __attribute__((noreturn));	/* while it boots */

/* the instrumented half's */
struct shared_info;
extern struct shared_info shared_info;
void explore_setup(void);
enum wrong explore_end(const char **said);
int explore_abi_as_asked(void);
int explore_is_peers(unsigned port), explore_is_pending(unsigned port);
int explore_is_masked(unsigned port);
#endif
