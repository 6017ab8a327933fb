/* The harness of lower halves, and it notes every look: as digits to the base 8. */
#include "explore.h"

static void see(unsigned item)
{
	explore_see(item);
	explore_notes[item] = explore_notes[item] * 8 + explore_seen(item);
}

#define explore_see see
#include "harness.c"
