/* Tracking: gives a packet its identity, and keeps it while its data lives.
 *
 * A packet is known by (skb->head when first seen, time of that). Clones share head, so they share the identity; a
 * copy has a new head and is a new packet. When pskb_expand_head() is about to replace head, the entry is put under
 * the address of the sk_buff as well, and moves to the new head at the next hit.
 */

struct tracking_info {
	u64 orig_head;
	u64 timestamp;		/* ns, of the first hit */
	u64 last_seen;		/* ns: the garbage collector's measure (retis_py/kernel/tracking.py) */
};

#if REDUCED
/* Without kprobes some frees go unseen: the oldest entries make room. */
BPF_TABLE("lru_hash", u64, struct tracking_info, tracking, TRACKING_ENTRIES);
#else
BPF_HASH(tracking, u64, struct tracking_info, TRACKING_ENTRIES);
#endif

/* What a probed function does to the packet's data; constants of each program. */
enum tracking_flags {
	TRACK_FREE = 1,		/* frees the data: the identity ends after the hit */
	TRACK_PARTIAL = 2,	/* TRACK_FREE, if the second argument is true: kfree_skb_partial() */
	TRACK_EXPAND = 4,	/* replaces head: pskb_expand_head() */
	TRACK_NEVER_NEW = 8,	/* may run after the data was released: report a known identity, never begin one */
	TRACK_LAST = 16,	/* TRACK_FREE, unless a clone goes on using the data: seen from consume_skb() */
};

/* Numbers of entries, so that most hits need not look for one. Only programs write here, only user space writes to
 * `settings`: neither can undo the other's count. */
struct tracked {
	u32 entries;	/* inserted less deleted by programs; those of the garbage collector are in settings.collected */
	u32 expanding;	/* entries under the address of an sk_buff whose head is about to change */
};
BPF_ARRAY(tracked, struct tracked, 1);

static __always_inline int add_entry(struct tracked *count, u64 *key, struct tracking_info *info)
{
	if (tracking.insert(key, info))
		return -1;
	lock_xadd(&count->entries, 1);
	return 0;
}

static __always_inline int delete_entry(struct tracked *count, u64 *key)
{
	if (tracking.delete(key))
		return -1;
	lock_xadd(&count->entries, -1);
	return 0;
}

static __always_inline struct tracking_info *
find_tracking(struct sk_buff *skb, unsigned char *head, struct settings *set, struct tracked *count)
{
	u64 key = (u64)head, skb_key = (u64)skb;
	struct tracking_info *info, moved;

	/* in reduced mode the kernel evicts entries unseen: the count only grows */
	if (count->entries == set->collected)
		return NULL;
	info = tracking.lookup(&key);
	if (info || !count->expanding)
		return info;
	info = tracking.lookup(&skb_key);
	if (!info)
		return NULL;
	moved = *info;
	add_entry(count, &key, &moved);
	if (!delete_entry(count, &skb_key))
		lock_xadd(&count->expanding, -1);
	return tracking.lookup(&key);
}

/* Entry step, for packets that passed the filters. */
static __always_inline void
track(struct context *ctx, struct tracked *count, struct tracking_info *info, u32 flags)
{
	struct tracking_info fresh = {};
	u64 key = (u64)ctx->head, skb_key = (u64)ctx->skb;

	if (!key)
		return;
	if (info) {
		info->last_seen = ctx->timestamp;
		fresh.orig_head = info->orig_head;
		fresh.timestamp = info->timestamp;
	} else {
		if (flags & TRACK_NEVER_NEW)
			return;
		fresh.orig_head = key;
		fresh.timestamp = ctx->timestamp;
	}
	fresh.last_seen = ctx->timestamp;
	if (!info && add_entry(count, &key, &fresh)) {
		/* full, unless another CPU came first */
		info = tracking.lookup(&key);
		if (!info) {
			count_loss(ctx->probe, LOSS_UNTRACKED);
			return;
		}
		fresh.orig_head = info->orig_head;
		fresh.timestamp = info->timestamp;
	}
	if (flags & TRACK_EXPAND && !add_entry(count, &skb_key, &fresh))
		lock_xadd(&count->expanding, 1);
	ctx->orig_head = fresh.orig_head;
	ctx->first_seen = fresh.timestamp;
	ctx->tracked = 1;
}

/* net/core/skbuff.c, skb_release_data(): the low half of dataref counts the users of the data. */
static __always_inline int last_user(struct sk_buff *skb, struct skb_brief *brief)
{
	struct skb_shared_info *info = (void *)(BRIEF(brief, head) + BRIEF(brief, end));
	u8 flags;

	read_number(&flags, sizeof(flags), (void *)skb + SKB_CLONED);
	return !(flags >> SKB_CLONED_BIT & 1) || (u16)READ(info->dataref.counter) == 1;
}

/* The data goes. Looking first spares untracked packets the bucket's lock. While pskb_expand_head() runs, the old head
 * is freed and the entry under the sk_buff stays; one that is left there when the new head is freed goes with it. */
static __always_inline void
untrack(struct sk_buff *skb, unsigned char *head, struct settings *set, struct tracked *count)
{
	u64 key = (u64)head, skb_key = (u64)skb;

	if (count->entries == set->collected)
		return;
	if (tracking.lookup(&key))
		delete_entry(count, &key);
	else if (count->expanding && !delete_entry(count, &skb_key))
		lock_xadd(&count->expanding, -1);
}
