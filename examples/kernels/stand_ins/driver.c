/* A driver's events in a kernel whose headers are far away. */
#include <linux/bitops.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>

struct vcpu_info {
	volatile unsigned char upcall_pending, upcall_mask;
	volatile unsigned long pending_sel;
	unsigned long rest[6];
};

extern struct {
	struct vcpu_info vcpu[32];
	volatile unsigned long pending[64], mask[64];
} shared_info;

static unsigned long todo;
static volatile int depth;

void driver_interrupt(void)
{
	unsigned long flags;

	local_irq_save(flags);
	BUG_ON(depth);
	depth = 1;
	shared_info.vcpu[0].upcall_pending = 0;
	__atomic_exchange_n(&shared_info.vcpu[0].pending_sel, 0, __ATOMIC_SEQ_CST);
	for (long port = 1; port < 4; port++)
		if (test_bit(port, shared_info.pending) && test_and_clear_bit(port, shared_info.pending))
			set_bit(port, &todo);
	depth = 0;
	local_irq_restore(flags);
}

/* Take what is to be done. */
unsigned long driver_take(void)
{
	unsigned long flags, taken;

#ifdef CAREFUL
	local_irq_save(flags);
#endif
	taken = todo;
	todo = 0;
#ifdef CAREFUL
	local_irq_restore(flags);
#endif
	(void)flags;
	return taken;
}

void driver_idle(void)
{
	__asm__ volatile("cli");
	if (*(volatile unsigned long *)&todo)
		__asm__ volatile("sti");
	else
		__asm__ volatile("sti; hlt" : : : "memory");
}
