/*
 * Partial-order reduction: of the moves that are possible in a state, some that are enough.
 *
 * Two moves are independent if they come to the same in either order. Where no agent outside of a
 * set can ever do, before these move, what depends on what they do next, it is enough to move
 * these: whatever the others do can be done later. So from each agent that can move a set is
 * closed, by adding each agent that may do something that its members' next moves depend on; the
 * set with the fewest moves is taken. What each may ever do is learned, as the words that are
 * shared are (memory.c, cpu.c): a search that learns more begins anew.
 *
 * Sets are of contexts: an agent's own code, and a vCPU's handler. What a vCPU does next outside of
 * its handler is independent of an upcall where it is an access to memory, is not in Xen, and
 * touches nothing that the handler does: the handler would run as a whole before or behind it.
 *
 * No end is left out, nor a run that goes wrong. A move that is put off stays possible, so a run that
 * comes to an end has made it; and where no end is to be reached any more that is a livelock, which
 * the search is made again for without reduction (search.c).
 */
#include "search.h"

#include "explore.h"
#include "shared_info.h"

#define EVERYBODY 0xffffffffu
#define OWN(agent) (1u << 2 * (agent))
#define HANDLER(vcpu) (2u << 2 * (vcpu))

/* What a context can do now: as bits of a question's answers; and whose doings that depends on. */
struct part { uint64_t moves; uint32_t meets; };

static struct part part[2 * MAX_AGENTS];

static uint32_t memory_meets(const struct agent *doing)
{
	uint32_t meets = memory_contexts(doing->address, doing->size, doing->kind);

	for (unsigned vcpu = 0; machine.delivery != UPCALL_VECTOR && vcpu < machine.vcpus; vcpu++)
		if (doing->address - (uint64_t)&shared_info.vcpu_info[vcpu] < 8)
			meets |= HANDLER(vcpu);
	return meets;
}

/* Who may raise an upcall for a vCPU, or keep one from it. */
static uint32_t upcall_meets(unsigned vcpu)
{
	uint64_t flags = (uint64_t)&shared_info.vcpu_info[vcpu];

	if (machine.delivery == UPCALL_VECTOR)
		return cpu_raisers[vcpu];
	return cpu_raisers[vcpu] | memory_contexts(flags, 8, STEP_LOCKED);
}

static int in_xen(unsigned agent)
{
	return agent < machine.vcpus && machine.vcpu[agent].in_xen;
}

/* Whom an agent's next step meets, with all that it does up to the one behind that. */
static uint32_t step_meets(unsigned agent)
{
	const struct agent *doing = &machine.agent[agent];
	uint32_t looks = in_xen(agent) ? upcall_meets(agent) : 0;	/* on its way out of Xen */

	switch (doing->kind) {
	case STEP_READ:
	case STEP_WRITE:
	case STEP_LOCKED:
	case STEP_WAIT:
		return looks | memory_meets(doing);
	case STEP_RAISE:
		return looks | HANDLER(doing->size);
	case STEP_CLI:
	case STEP_HLT:
		return looks;
	case STEP_HYPERCALL:
	case STEP_BLOCK:
	case STEP_RETURN:
		return upcall_meets(agent);
	default:
		return EVERYBODY;
	}
}

/* Whether its own processor's flags let a vCPU be interrupted. */
static int interruptible(unsigned number)
{
	const struct vcpu *vcpu = &machine.vcpu[number];

	if (vcpu->in_xen || !upcall_handler || machine.agent[number].whole)
		return 0;
	if (machine.delivery == PV_UPCALL)
		return 1;
	return vcpu->interrupts && !vcpu->shadow &&
	       !(machine.delivery == UPCALL_VECTOR && vcpu->in_service);
}

/* Whether it is the same before an upcall's handler and behind it. */
static int quiet(unsigned vcpu)
{
	const struct agent *doing = &machine.agent[vcpu];

	return doing->state == READY && !doing->first_half && !*cpu_upcall_counts &&
	       (doing->kind == STEP_READ || doing->kind == STEP_WRITE || doing->kind == STEP_LOCKED) &&
	       !(memory_meets(doing) & HANDLER(vcpu));
}

/* Whose steps an agent's next one depends on, if no interrupt comes first. */
static uint32_t next_meets(unsigned agent)
{
	switch (machine.agent[agent].state) {
	case READY:
	case WAITING:
		return step_meets(agent);
	case SLEEPING:
		return upcall_meets(agent);
	default:
		return 0;
	}
}

/* A vCPU has one part where its handler runs, or cannot be entered; and else two. */
static void divide_vcpu(unsigned vcpu)
{
	struct part *own = &part[2 * vcpu], *handler = own + 1;

	if (machine.vcpu[vcpu].handlers) {
		handler->meets = next_meets(vcpu) | (interruptible(vcpu) ? upcall_meets(vcpu) : 0);
		own->meets = HANDLER(vcpu);
	} else if (interruptible(vcpu)) {
		own->meets = next_meets(vcpu) | (quiet(vcpu) ? 0 : HANDLER(vcpu));
		handler->meets = upcall_meets(vcpu) | OWN(vcpu);
	} else {
		own->meets = next_meets(vcpu);
		handler->meets = OWN(vcpu);
	}
}

/* The contexts that are still there. */
static uint32_t divide(const struct question *asked)
{
	uint32_t there = 0;

	for (unsigned agent = 0; agent < machine.agents; agent++) {
		part[2 * agent] = part[2 * agent + 1] = (struct part){0, 0};
		if (machine.agent[agent].state == DONE)
			continue;
		there |= OWN(agent) | HANDLER(agent);
		if (agent < machine.vcpus)
			divide_vcpu(agent);
		else
			part[2 * agent].meets = next_meets(agent);
	}
	for (unsigned i = 0; i < asked->count; i++) {
		unsigned agent = asked->moves[i] / MOVES;
		unsigned upcall = asked->moves[i] % MOVES == DELIVER;
		unsigned handles = agent < machine.vcpus && machine.vcpu[agent].handlers;

		part[2 * agent + (upcall || handles)].moves |= 1ul << i;
	}
	return there;
}

static uint64_t closed(unsigned context, uint32_t there)
{
	uint32_t in = 1u << context, left = in;
	uint64_t moves = 0;

	while (left) {
		const struct part *one = &part[__builtin_ctz(left)];
		uint32_t more = one->meets & there & ~in;

		moves |= one->moves;
		in |= more;
		left = (left & (left - 1)) | more;
	}
	return moves;
}

/* As bits of the answers. */
uint64_t reduce(const struct question *asked)
{
	uint64_t best = ~0ul;
	uint32_t there;

	if (asked->count < 2 || machine.order != IN_ORDER)
		return best;
	there = divide(asked);
	for (unsigned context = 0; context < 2 * machine.agents; context++) {
		uint64_t moves = part[context].moves ? closed(context, there) : 0;

		if (moves && __builtin_popcountl(moves) < __builtin_popcountl(best))
			best = moves;
	}
	return best;
}
