/* Interrupts: the table of their entries, the local APIC, and what is done when one comes.
 *
 * An upcall, by either way of delivery, is counted and handed to the task's own handler. The local
 * APIC's timer is a watchdog: it wakes a vCPU that would sleep for good, and does nothing else. Its
 * vector is in the highest class, so that an upcall in service does not hold it off.
 *
 * On hardware no interrupt comes between `sti` and a `hlt` right behind it. The emulated machine of
 * the lab loses that shadow of sti now and then, as Xen runs the guest again. A handler then finds
 * that it will return to the hlt, to be slept through: it steps over it, and counts.
 *
 * A watchdog that strikes anywhere but in a hlt has struck too early; a task can have it wound up again.
 */
#include "probe.h"

struct frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

struct gate {
	uint16_t low, segment, attributes, middle;
	uint32_t high, zero;
};

struct cpu cpus[VCPUS];
void (*upcall_handler)(unsigned int vcpu);
uint64_t watchdog_again;

extern char entries[], second_stack[STACK];

static struct gate gates[256] __attribute__((aligned(16)));

enum { APIC_EOI = 0x80b, APIC_SPURIOUS = 0x80f, APIC_TIMER = 0x832, APIC_COUNT = 0x838,
       APIC_DIVIDE = 0x83e, APIC_BASE = 0x1b,
       APIC_MASKED = 0x10000 };	/* x2APIC: the registers are MSRs */

unsigned int this_vcpu(void)
{
	char here;

	return &here >= second_stack && &here < second_stack + STACK;
}

void eoi(void)
{
	wrmsr(APIC_EOI, 0);
}

/* Have the watchdog strike after so long; 0 for never. Xen's bus cycle is 10 ns. */
void watchdog(uint64_t ns)
{
	wrmsr(APIC_COUNT, ns / 10);
}

/* Silent, it wakes a vCPU and leaves no interrupt. */
void silence_watchdog(int silent)
{
	wrmsr(APIC_TIMER, WATCHDOG | (silent ? APIC_MASKED : 0));
}

void interrupts_on(void)
{
	struct { uint16_t limit; uint64_t base; } __attribute__((packed)) table =
		{ sizeof(gates) - 1, (uintptr_t)gates };

	for (unsigned int vector = 0; vector < 256; vector++) {
		uintptr_t entry = (uintptr_t)entries + 16 * vector;

		gates[vector] = (struct gate){ .low = entry, .segment = 8, .attributes = 0x8e00,
					       .middle = entry >> 16, .high = entry >> 32 };
	}
	asm volatile("lidt %0" :: "m"(table));
	wrmsr(APIC_BASE, rdmsr(APIC_BASE) | 0xc00);
	wrmsr(APIC_SPURIOUS, 0x1ff);
	wrmsr(APIC_DIVIDE, 0xb);
	wrmsr(APIC_TIMER, WATCHDOG);
}

void interrupt(struct frame *frame)
{
	unsigned int vcpu = this_vcpu();
	struct cpu *cpu = &cpus[vcpu];
	const uint8_t *next = (const uint8_t *)frame->rip;

	int torn = frame->vector >= 32 && next[-1] == STI && next[0] == HLT;

	if (torn) {
		cpu->torn_apart++;
		frame->rip++;
	}
	switch (frame->vector) {
	case DEBUG:
		if (!stepped(frame->rip))
			frame->rflags &= ~TRAP_FLAG;
		break;
	case UPCALL:
	case CALLBACK:
		cpu->upcalls++;
		cpu->upcalls_asleep += torn || next[-1] == HLT;
		cpu->storm++;
		upcall_handler(vcpu);
		break;
	case WATCHDOG:
		cpu->watchdogs++;
		if (next[-1] == HLT) {
			cpu->watchdogs_asleep++;
			cpu->upcalls_by_then = cpu->upcalls;
		} else
			watchdog(watchdog_again);
		eoi();
		break;
	default:
		report->words[0] = frame->vector;
		report->words[1] = frame->error;
		report->words[2] = frame->rip;
		asm volatile("mov %%cr2, %0" : "=r"(report->words[3]));
		finish(TRAPPED);
	}
}
