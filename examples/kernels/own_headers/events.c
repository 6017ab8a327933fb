/* A unikernel's events: the interrupt takes what fired, and remembers it for the main loop. */
#include <hypervisor.h>

static u64 remembered;

void events_interrupt(void)
{
	struct vcpu *own = &shared_info.vcpu[0];
	u64 words, ready;

	*(volatile u32 *)0xfee000b0ul = 0;		/* the local APIC's EOI */
	own->upcall = 0;
	for (words = exchange(&own->selector, 0); words; words &= words - 1) {
		u64 word = __builtin_ctzl(words);

		while ((ready = ((volatile u64 *)shared_info.pending)[word] &
				~((volatile u64 *)shared_info.masked)[word])) {
			u64 port = word * 64 + __builtin_ctzl(ready);

			clear_bit(port, shared_info.pending);
			set_bit(port, &remembered);
		}
	}
}

/* The ports that fired, as bits; sleeps until there is one. */
u64 events_wait(void)
{
	u64 fired;

	while (!(fired = exchange(&remembered, 0))) {
#ifdef CAREFUL
		__asm__ volatile("cli");
		if (*(volatile u64 *)&remembered)
			__asm__ volatile("sti");
		else
			__asm__ volatile("sti; hlt" : : : "memory");
#else
		__asm__ volatile("hlt" : : : "memory");
#endif
	}
	return fired;
}
