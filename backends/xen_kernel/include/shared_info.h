/* The page that Xen shares with a guest. Source: public/xen.h, public/arch-x86/xen.h (x86_64). */
#ifndef SHARED_INFO_H
#define SHARED_INFO_H

#include <stdint.h>

struct vcpu_info {
	volatile uint8_t evtchn_upcall_pending;
	volatile uint8_t evtchn_upcall_mask;
	volatile uint64_t evtchn_pending_sel;
	uint64_t cr2, pad;
	uint64_t time[4];
};

struct shared_info {
	struct vcpu_info vcpu_info[32];
	volatile uint64_t evtchn_pending[64];
	volatile uint64_t evtchn_mask[64];
	uint8_t wall_clock[12];
} __attribute__((aligned(4096)));

#endif
