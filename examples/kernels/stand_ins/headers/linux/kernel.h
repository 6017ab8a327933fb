/* A stand-in: an assertion of the kernel's. */
#pragma once

#define BUG_ON(what) \
	do { \
		if (what) \
			__asm__ volatile("ud2"); \
	} while (0)
