/*
 * Included before every file that is explored. What `__sync_` builtins are on arm64: a full barrier,
 * where `__atomic_` ones are as strong as they say. The compiler tells the engine of both alike.
 */
#ifndef EXPLORE_BARRIERS_H
#define EXPLORE_BARRIERS_H

#define EXPLORE_FULL(operation) \
	({ \
		__auto_type explored_ = (operation); \
		__atomic_thread_fence(__ATOMIC_SEQ_CST); \
		explored_; \
	})

#define __sync_fetch_and_add(at, value) EXPLORE_FULL(__sync_fetch_and_add(at, value))
#define __sync_fetch_and_sub(at, value) EXPLORE_FULL(__sync_fetch_and_sub(at, value))
#define __sync_fetch_and_or(at, value) EXPLORE_FULL(__sync_fetch_and_or(at, value))
#define __sync_fetch_and_and(at, value) EXPLORE_FULL(__sync_fetch_and_and(at, value))
#define __sync_fetch_and_xor(at, value) EXPLORE_FULL(__sync_fetch_and_xor(at, value))
#define __sync_add_and_fetch(at, value) EXPLORE_FULL(__sync_add_and_fetch(at, value))
#define __sync_sub_and_fetch(at, value) EXPLORE_FULL(__sync_sub_and_fetch(at, value))
#define __sync_or_and_fetch(at, value) EXPLORE_FULL(__sync_or_and_fetch(at, value))
#define __sync_and_and_fetch(at, value) EXPLORE_FULL(__sync_and_and_fetch(at, value))
#define __sync_xor_and_fetch(at, value) EXPLORE_FULL(__sync_xor_and_fetch(at, value))
#define __sync_val_compare_and_swap(at, old, value) \
	EXPLORE_FULL(__sync_val_compare_and_swap(at, old, value))
#define __sync_bool_compare_and_swap(at, old, value) \
	EXPLORE_FULL(__sync_bool_compare_and_swap(at, old, value))

#endif
