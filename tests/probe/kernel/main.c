/* The probe: a bare PVHv2 guest that does what its module says, on a real Xen.
 *
 * It finds the hypercall page by CPUID, maps shared_info, asks for its upcalls, and does its task.
 * What it learns it writes into its own memory, at REPORT, where dom0 reads it; it needs no console
 * and no device. In the end it shuts down, and stays in memory until dom0 has read it.
 */
#include "probe.h"

#include <xen/arch-x86/hvm/start_info.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/hvm_vcpu.h>
#include <xen/hvm/params.h>
#include <xen/memory.h>

extern char page_tables[], second_stack_end[];
extern void second_start(void);

/* The compiler may call these. */
void *memcpy(void *to, const void *from, size_t size)
{
	char *t = to;
	const char *f = from;

	for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t), t += 8, f += 8)
		*(uint64_t *)t = *(const uint64_t *)f;
	while (size--)
		*t++ = *f++;
	return to;
}

void *memset(void *to, int value, size_t size)
{
	char *t = to;
	uint64_t bytes = 0x0101010101010101 * (uint8_t)value;

	for (; size >= sizeof(bytes); size -= sizeof(bytes), t += 8)
		*(uint64_t *)t = bytes;
	while (size--)
		*t++ = value;
	return to;
}

void finish(enum state state)
{
	struct sched_shutdown off = { .reason = SHUTDOWN_poweroff };

	report->state = state;
	sched_op(SCHEDOP_shutdown, &off);
	for (;;)
		hlt();
}

uint32_t xen_leaf;

static void find_hypercalls(void)
{
	uint32_t leaf, eax, ebx, ecx, edx;

	for (leaf = 0x40000000; leaf < 0x40010000; leaf += 0x100) {
		asm volatile("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "a"(leaf));
		if (ebx == 0x566e6558 && ecx == 0x65584d4d && edx == 0x4d4d566e)
			break;	/* XenVMMXenVMM */
	}
	xen_leaf = leaf;
	asm volatile("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "a"(leaf + 2));
	wrmsr(ebx, (uintptr_t)hypercall_page);
}

void add_to_physmap(unsigned int space, unsigned int index, const void *where)
{
	struct xen_add_to_physmap map = {
		.domid = DOMID_SELF,
		.space = space,
		.idx = index,
		.gpfn = (uintptr_t)where / PAGE,
	};

	hypercall(__HYPERVISOR_memory_op, XENMEM_add_to_physmap, (uintptr_t)&map, 0);
}

void deliver_by(enum delivery delivery, unsigned int vcpu)
{
	struct xen_hvm_evtchn_upcall_vector vector = { .vcpu = vcpu, .vector = UPCALL };
	struct xen_hvm_param callback = {
		.domid = DOMID_SELF,
		.index = HVM_PARAM_CALLBACK_IRQ,
		.value = (uint64_t)HVM_PARAM_CALLBACK_TYPE_VECTOR << 56 | CALLBACK,
	};

	if (delivery == UPCALL_VECTOR)
		hypercall(__HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector,
			  (uintptr_t)&vector, 0);
	else if (delivery == CALLBACK_VECTOR && vcpu == 0)
		hypercall(__HYPERVISOR_hvm_op, HVMOP_set_param, (uintptr_t)&callback, 0);
}

int64_t start_second(void)
{
	static struct vcpu_hvm_context context;
	int64_t result;

	context.mode = VCPU_HVM_MODE_64B;
	context.cpu_regs.x86_64.rip = (uintptr_t)second_start;
	context.cpu_regs.x86_64.rsp = (uintptr_t)second_stack_end;
	context.cpu_regs.x86_64.rflags = 2;
	context.cpu_regs.x86_64.cr0 = 0x80000011;
	context.cpu_regs.x86_64.cr3 = (uintptr_t)page_tables;
	context.cpu_regs.x86_64.cr4 = 0x20;
	context.cpu_regs.x86_64.efer = 0x500;
	result = vcpu_op(VCPUOP_initialise, 1, &context);
	return result ? result : vcpu_op(VCPUOP_up, 1, NULL);
}

void second_main(void)
{
	interrupts_on();
	programs_second();
}

void probe_main(const struct hvm_start_info *info)
{
	const struct hvm_modlist_entry *module = (void *)info->modlist_paddr;
	const struct module *task = (void *)module->paddr;

	report->magic = MAGIC;
	find_hypercalls();
	add_to_physmap(XENMAPSPACE_shared_info, 0, &shared_info);
	interrupts_on();
	report->state = RUNNING;
	switch (task->task) {
	case TASK_PROGRAMS:
		programs(task);
		break;
	case TASK_LOWER_HALF:
		lower_half_task(task);
		break;
	case TASK_PEER:
		grants_peer();
		break;
	case TASK_HLT:
		cli();
		hlt();	/* with interrupts off: nobody comes back from it */
		break;
	}
	finish(DONE);
}
