/* Xen's clock. Of each vCPU, Xen keeps in shared_info when the time stamp counter last was known to
 * stand at which nanosecond, and how fast it runs. `version` is odd while Xen writes.
 */
#include "probe.h"

static uint64_t scaled(uint64_t ticks, uint32_t mul, int8_t shift)
{
	ticks = shift < 0 ? ticks >> -shift : ticks << shift;
	return (unsigned __int128)ticks * mul >> 32;
}

uint64_t now(void)
{
	const volatile struct vcpu_time_info *time = &shared_info.vcpu_info[this_vcpu()].time;
	uint32_t version;
	uint64_t ns;

	do {
		version = time->version;
		barrier();
		ns = time->system_time + scaled(rdtsc() - time->tsc_timestamp,
						time->tsc_to_system_mul, time->tsc_shift);
		barrier();
	} while ((version & 1) || version != time->version);
	return ns;
}
