/* What the probe's files know of each other. */
#ifndef PROBE_H
#define PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "cpu.h"
#include "hypercall.h"

#define PAGE 4096
#define FRAMES 8
#define GRANT_FRAMES 2
#define VCPUS 2
#define STACK 16384		/* as in boot.S */

/* The module: what the probe is to do. Written by the tests (module.py). */
struct module {
	uint32_t magic;
	uint32_t task;		/* enum task */
	uint32_t delivery;	/* enum delivery */
	uint32_t vcpus;
	uint32_t words[12];	/* the task's own */
	uint8_t rest[];
};

#define MAGIC 0x424f5250	/* "PROB" */

enum task { TASK_PROGRAMS, TASK_LOWER_HALF, TASK_HLT, TASK_PEER };
enum delivery { NOT_DELIVERED, UPCALL_VECTOR, CALLBACK_VECTOR };

/* The report: what dom0 reads in the probe's memory, at REPORT, while it runs and after. */
struct report {
	uint64_t magic;
	volatile uint64_t state;	/* enum state */
	volatile uint64_t used;		/* bytes of `rest` */
	volatile uint64_t words[13];	/* the task's own; in a trap: vector, error, rip, cr2 */
	uint8_t rest[];
};

#define REPORT 0x1000000		/* 16 MiB: module.py */
#define REPORT_SIZE 0xe00000

#define OTHER 12		/* the word that dom0 writes: the domid of the other guest, if there is one */

enum state { BOOTING, RUNNING, DONE, TRAPPED, FULL };

extern struct shared_info shared_info;
extern uint8_t frames[FRAMES][PAGE];
extern uint64_t grant_frames[GRANT_FRAMES][PAGE / 8];
extern uint8_t window[PAGE];

static struct report *const report = (void *)REPORT;

/* What the task `programs` does, and what it says of it: module.py. */
struct step {
	uint8_t kind, domain, vcpu, size;
	uint32_t number;
	uint8_t data[32];
};

struct change {
	uint64_t where;		/* page << 16 | offset, page 0 being shared_info */
	uint64_t value;
};

struct answer {
	int32_t result;
	uint16_t slept;
	uint16_t changes;
	uint32_t upcalls[VCPUS];
	uint8_t argument[32];
	struct change change[];
};

/* main.c */
extern uint32_t xen_leaf;	/* of CPUID, where Xen's begin */
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
void finish(enum state state) __attribute__((noreturn));
void add_to_physmap(unsigned int space, unsigned int index, const void *where);
void deliver_by(enum delivery delivery, unsigned int vcpu);
int64_t start_second(void);
void programs_second(void) __attribute__((noreturn));

/* grants.c */
void grants_start(void);
void grants_peer(void);
int64_t grants_begin(void);
int64_t grant_table_op(const struct step *step, struct answer *answer);
int64_t grants_step(const struct step *step);
uint64_t grants_told(uint64_t entry);
const uint64_t *grants_page(unsigned int index, unsigned int *from, int *of_entries);

/* clock.c: nanoseconds, as Xen counts them */
uint64_t now(void);

/* interrupts.c */
#define DEBUG 1
#define UPCALL 0x20	/* the vectors: of the upcall vector, */
#define CALLBACK 0x21	/* of the callback vector, */
#define WATCHDOG 0xe0	/* and of the local APIC's timer */

struct cpu {
	volatile uint32_t upcalls;
	volatile uint32_t watchdogs;
	volatile uint32_t upcalls_asleep, watchdogs_asleep;	/* those that ended a hlt */
	volatile uint32_t upcalls_by_then;	/* as such a watchdog struck */
	volatile uint32_t torn_apart;	/* interrupts that came between sti and hlt */
	volatile uint32_t storm;	/* upcalls since the main program last cleared it */
};

extern struct cpu cpus[VCPUS];
extern void (*upcall_handler)(unsigned int vcpu);
extern uint64_t watchdog_again;	/* ns, after one that struck too early; 0: never */

unsigned int this_vcpu(void);
void interrupts_on(void);
void eoi(void);
void watchdog(uint64_t ns);
void silence_watchdog(int silent);
#define TRAP_FLAG 0x100
int stepped(uint64_t rip);	/* june.c: whether to go on stepping */

/* The tasks */
void programs(const struct module *module);
void lower_half_task(const struct module *module);

#endif
