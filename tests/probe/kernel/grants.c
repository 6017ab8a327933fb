/* Steps of grants: hypercall 20, the entries, and what is mapped.
 *
 * Two guests with this kernel: one grants, and does nothing besides (the task `peer`). It grants its
 * eight pages to the other for good, and the page of its grant table, so that the other, which has the
 * program, can write the entries of both and see all that becomes of them.
 *
 * In a program, pages have numbers, the same in both guests: 0 to 7 are those pages, then come the
 * slots, at which grants are mapped, and any other number is of a page that there is not. Handles are
 * named by the slot that they were given for. What a program cannot know before (addresses, domids)
 * is put in here, and taken out of the answer again.
 */
#include "probe.h"

#include <xen/errno.h>
#include <xen/grant_table.h>
#include <xen/memory.h>

#include "kinds.h"

#define END (1ull << 32)		/* behind `window` nothing can be read */
#define BASE 0x40000000ull		/* the slots: addresses at which there is no memory */
#define NO_FRAME 0x10000000u
#define NO_HANDLE 0xffffffffu
#define PEER_BASE 0x50000000ull		/* here the peer's table is, and behind it its pages */
#define FIRST_REF (GNTTAB_NR_RESERVED_ENTRIES + 1 + FRAMES)	/* that is a program's, of the peer's */
#define RAW 256				/* added to a handle that is meant as it is */
#define LIST_END 0x5555555555555555ull

/* What is mapped, by address: unmapping one may be by the handle of another of the same page. */
static struct {
	int mapped, readonly;
	uint32_t handle;		/* given for the last mapping at this slot */
} slots[SLOTS];
static uint32_t handles[SLOTS];		/* those in use */
static unsigned int handles_used;
static domid_t domid, peer;
static uint64_t *const peer_table = (void *)PEER_BASE;
static unsigned int table_frames;	/* of the grant table, that are mapped */
static uint64_t list[8];		/* of GNTTABOP_setup_table */

/* A copy with both frames and references in 32 bits. */
struct short_copy {
	uint32_t source;
	uint16_t source_domid, source_offset;
	uint32_t dest;
	uint16_t dest_domid, dest_offset;
	uint16_t length, flags;
	int16_t status;
} __attribute__((packed));

union argument {
	uint8_t bytes[40];
	struct gnttab_map_grant_ref map;
	struct gnttab_unmap_grant_ref unmap;
	struct gnttab_setup_table setup;
	struct gnttab_query_size size;
	struct gnttab_get_version version;
	struct gnttab_copy copy;
};

static uint32_t frame_of(uint32_t number)
{
	if (number < FRAMES)
		return (uintptr_t)frames[number] / PAGE;
	if (number < FRAMES + SLOTS)
		return BASE / PAGE + number - FRAMES;
	return number + NO_FRAME;
}

/* An entry without its frame's number, as the simulator has others: 0 for none of these. */
uint64_t grants_told(uint64_t entry)
{
	uint32_t frame = entry >> 32, number = frame;

	for (uint32_t n = 0; n < FRAMES + SLOTS; n++)
		if (frame == frame_of(n))
			number = 1 + n;
	return (uint32_t)entry | (uint64_t)number << 32;
}

static domid_t domid_of(domid_t given)
{
	return given == OWN ? domid : given == PEER ? peer : given;
}

static uint64_t address_of(uint64_t given)
{
	uint32_t slot = given;

	if (slot < SLOTS)
		return BASE + (uint64_t)slot * PAGE + (given >> 32) % PAGE;
	return slot == SLOTS ? 0 : slot == SLOTS + 1 ? (uintptr_t)frames[0] : BASE + (1ull << 29);
}

static uint32_t handle_of(uint32_t given)
{
	return given < RAW ? slots[given % SLOTS].handle : given - RAW;
}

static int64_t op(unsigned int command, void *argument, uint32_t count)
{
	return hypercall(__HYPERVISOR_grant_table_op, command, (uintptr_t)argument, count);
}

/* What has become of the mappings. */

static void note_mapped(uint32_t slot, const struct gnttab_map_grant_ref *map)
{
	slots[slot].mapped = 1;
	slots[slot].readonly = map->flags & GNTMAP_readonly;
	slots[slot].handle = map->handle;
	handles[handles_used++] = map->handle;
}

static void note_unmapped(const struct gnttab_unmap_grant_ref *unmap)
{
	if (!unmap->host_addr)
		return;		/* nothing was asked for, and nothing done */
	slots[(unmap->host_addr - BASE) / PAGE].mapped = 0;
	for (unsigned int n = 0; n < handles_used; n++)
		if (handles[n] == unmap->handle) {
			handles[n] = handles[--handles_used];
			break;
		}
}

static int unmap_last(void)
{
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		struct gnttab_unmap_grant_ref unmap = {
			.host_addr = address_of(slot),
			.handle = handles[handles_used - 1],
			.status = 1,
		};

		if (!slots[slot].mapped)
			continue;
		op(GNTTABOP_unmap_grant_ref, &unmap, 1);
		if (!unmap.status) {
			note_unmapped(&unmap);
			return 1;
		}
	}
	return 0;
}

/* An error where one of the mappings is at no slot, which is never so. */
int64_t grants_begin(void)
{
	while (handles_used)
		if (!unmap_last())
			return -XEN_EFAULT;
	for (uint32_t slot = 0; slot < SLOTS; slot++)
		slots[slot].handle = NO_HANDLE;
	memset(grant_frames[0] + GNTTAB_NR_RESERVED_ENTRIES, 0, PAGE - GNTTAB_NR_RESERVED_ENTRIES * 8);
	memset(grant_frames[1], 0, PAGE);
	if (peer) {
		memset(peer_table + FIRST_REF, 0, PAGE - FIRST_REF * 8);
		memset(peer_table + PAGE / 8, 0, FRAMES * PAGE);
	}
	return 0;
}

static void map_table(unsigned int count)
{
	for (; table_frames < count; table_frames++)
		add_to_physmap(XENMAPSPACE_grant_table, table_frames, grant_frames[table_frames]);
}

void grants_start(void)
{
	uint32_t eax, ebx, ecx, edx;

	asm volatile("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx)
		     : "a"(xen_leaf + 4), "c"(0));
	domid = ecx;
	map_table(1);
	peer = report->words[OTHER];
	for (uint32_t n = 0; peer && n < 1 + FRAMES; n++) {
		struct gnttab_map_grant_ref map = {
			.host_addr = PEER_BASE + n * PAGE,
			.flags = GNTMAP_host_map,
			.ref = GNTTAB_NR_RESERVED_ENTRIES + n,
			.dom = peer,
		};

		op(GNTTABOP_map_grant_ref, &map, 1);
		report->words[3] |= (uint16_t)map.status;
	}
}

/* The task `peer`. */
void grants_peer(void)
{
	map_table(1);
	for (uint32_t n = 0; n < 1 + FRAMES; n++) {
		const void *page = n ? frames[n - 1] : (void *)grant_frames;

		grant_frames[0][GNTTAB_NR_RESERVED_ENTRIES + n] =
			GTF_permit_access | report->words[OTHER] << 16 |
			(uintptr_t)page / PAGE << 32;
	}
}

/* Another page of an answer: the number that it has there, where it is, and from where on it is the
 * program's; 0 behind the last. */
const uint64_t *grants_page(unsigned int index, unsigned int *from, int *of_entries)
{
	unsigned int n = index - GRANT_FRAMES;

	*of_entries = index < GRANT_FRAMES || n == FRAMES;
	*from = index == 0 ? GNTTAB_NR_RESERVED_ENTRIES : n == FRAMES ? FIRST_REF : 0;
	if (index < GRANT_FRAMES)
		return grant_frames[index];
	if (!peer || n > FRAMES)
		return NULL;
	return n == FRAMES ? peer_table : peer_table + (1 + n) * (PAGE / 8);
}

/* Hypercall 20. The argument ends where nothing can be read any more, so that a second of several, or
 * the rest of one that is cut short, is not there. */
int64_t grant_table_op(const struct step *step, struct answer *answer)
{
	unsigned int command = step->number & 0xffff, size = step->size, whole = 0;
	uint32_t count = step->number >> 16 == 0xffff ? ~0u : step->number >> 16;
	const struct short_copy *copy = (const void *)step->data;
	union argument full = { { 0 } };
	const union argument *given = (const void *)step->data;
	union argument *argument;
	int64_t result;

	memcpy(full.bytes, step->data, size);
	memcpy(answer->argument, step->data, size);
	switch (command) {
	case GNTTABOP_map_grant_ref:
		whole = sizeof(full.map);
		if (size == whole && ((uint32_t)full.map.host_addr >= SLOTS ||
				      slots[(uint32_t)full.map.host_addr].mapped))
			return -XEN_EBUSY;
		full.map.host_addr = address_of(full.map.host_addr);
		full.map.dom = domid_of(full.map.dom);
		break;
	case GNTTABOP_unmap_grant_ref:
		whole = sizeof(full.unmap);
		full.unmap.host_addr = address_of(full.unmap.host_addr);
		full.unmap.handle = handle_of(full.unmap.handle);
		break;
	case GNTTABOP_setup_table:
		whole = sizeof(full.setup);
		full.setup.dom = domid_of(full.setup.dom);
		for (unsigned int n = 0; n < 8; n++)
			list[n] = LIST_END;
		set_xen_guest_handle(full.setup.frame_list,
				     *(uint64_t *)&given->setup.frame_list ? (void *)END : list);
		break;
	case GNTTABOP_query_size:
		whole = sizeof(full.size);
		full.size.dom = domid_of(full.size.dom);
		break;
	case GNTTABOP_get_version:
		whole = sizeof(full.version);
		full.version.dom = domid_of(full.version.dom);
		break;
	case GNTTABOP_copy:
		whole = sizeof(*copy);
		full.copy = (struct gnttab_copy){
			.source.u.gmfn = copy->flags & GNTCOPY_source_gref ? copy->source
									   : frame_of(copy->source),
			.source.domid = domid_of(copy->source_domid),
			.source.offset = copy->source_offset,
			.dest.u.gmfn = copy->flags & GNTCOPY_dest_gref ? copy->dest
								       : frame_of(copy->dest),
			.dest.domid = domid_of(copy->dest_domid),
			.dest.offset = copy->dest_offset,
			.len = copy->length,
			.flags = copy->flags,
			.status = copy->status,
		};
		size += sizeof(full.copy) - sizeof(*copy);
		break;
	}
	argument = (union argument *)(END - size);
	memcpy(argument, full.bytes, size);
	result = op(command, argument, count);
	memcpy(full.bytes, argument, size);
	if (whole && step->size < whole)
		return result;
	switch (command) {
	case GNTTABOP_map_grant_ref:
		if (!full.map.status)
			note_mapped((uint32_t)given->map.host_addr, &full.map);
		full.map.host_addr = given->map.host_addr;
		full.map.dom = given->map.dom;
		full.map.dev_bus_addr = 0;	/* a machine's address */
		break;
	case GNTTABOP_unmap_grant_ref:
		if (!full.unmap.status)
			note_unmapped(&full.unmap);
		full.unmap.host_addr = given->unmap.host_addr;
		full.unmap.handle = given->unmap.handle;
		break;
	case GNTTABOP_setup_table:
		if (!full.setup.status)
			map_table(full.setup.nr_frames);
		full.setup.dom = given->setup.dom;
		*(uint64_t *)&full.setup.frame_list = 0;
		for (unsigned int n = 0; n < 8; n++)	/* how many were written */
			*(uint64_t *)&full.setup.frame_list += list[n] != LIST_END;
		break;
	case GNTTABOP_query_size:
		full.size.dom = given->size.dom;
		break;
	case GNTTABOP_get_version:
		full.version.dom = given->version.dom;
		break;
	case GNTTABOP_copy:
		((struct short_copy *)answer->argument)->status = full.copy.status;
		return result;
	}
	memcpy(answer->argument, full.bytes, size);
	return result;
}

/* The guest's own accesses: to an entry, and to what is mapped where it is. */
int64_t grants_step(const struct step *step)
{
	const struct { uint16_t flags, domid; uint32_t frame; } *entry = (const void *)step->data;
	uint32_t number = step->number & 0xffff, page = step->number >> 16;
	volatile uint64_t *word = (uint64_t *)(BASE + page * PAGE + number);
	const uint64_t *keep_flip = (const uint64_t *)step->data;

	if (step->kind == STEP_GRANT_ENTRY) {
		unsigned int own = page & 2;

		word = own ? &grant_frames[0][number] : &peer_table[number];
		if (number >= (own ? table_frames : 1) * (PAGE / 8))
			return -XEN_ENOENT;
		if (page & 1)	/* the flags alone */
			*(volatile uint16_t *)word = entry->flags;
		else
			*word = entry->flags | (uint32_t)domid_of(entry->domid) << 16 |
				(uint64_t)frame_of(entry->frame) << 32;
	} else if (!slots[page].mapped)
		return -XEN_ENOENT;
	else if (step->kind == STEP_MAPPED_LOAD)
		return *word & 0x7fffffff;
	else if (!slots[page].readonly)
		*word = (*word & keep_flip[0]) ^ keep_flip[1];
	return 0;
}
