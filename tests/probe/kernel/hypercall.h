/* Hypercalls, by the page that Xen fills with a stub of 32 bytes for each. */
#ifndef PROBE_HYPERCALL_H
#define PROBE_HYPERCALL_H

#include <stdint.h>

#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/sched.h>
#include <xen/vcpu.h>

extern char hypercall_page[];

static inline int64_t hypercall(unsigned int number, uint64_t a, uint64_t b, uint64_t c)
{
	int64_t result;

	asm volatile("call *%[stub]"
		     : "=a"(result), "+D"(a), "+S"(b), "+d"(c)
		     : [stub] "r"(hypercall_page + number * 32)
		     : "memory", "rcx", "r8", "r9", "r10", "r11");
	return result;
}

static inline int64_t event_channel_op(unsigned int command, void *argument)
{
	return hypercall(__HYPERVISOR_event_channel_op, command, (uintptr_t)argument, 0);
}

static inline int64_t sched_op(unsigned int command, void *argument)
{
	return hypercall(__HYPERVISOR_sched_op, command, (uintptr_t)argument, 0);
}

static inline int64_t vcpu_op(unsigned int command, unsigned int vcpu, void *argument)
{
	return hypercall(__HYPERVISOR_vcpu_op, command, vcpu, (uintptr_t)argument);
}

static inline int64_t set_timer_op(uint64_t deadline)
{
	return hypercall(__HYPERVISOR_set_timer_op, deadline, 0, 0);
}

#endif
