/* A stand-in: interrupts off, and back as they were. */
#pragma once

#define local_irq_save(flags) \
	__asm__ volatile("pushf; pop %0; cli" : "=rm"(flags) : : "memory")
#define local_irq_restore(flags) \
	__asm__ volatile("push %0; popf" : : "rm"(flags) : "memory", "cc")
