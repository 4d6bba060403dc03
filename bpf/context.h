/* Context of a hit: what is known of it before any collector runs. */

enum { ARGS_MAX = 6 };

/* Arguments of a call, as they were at its entry. */
struct entry_args {
	u64 args[ARGS_MAX];
};

struct context {
	void *bpf;			/* the program's own context, for helpers that want it */
	u64 timestamp;			/* ns, CLOCK_MONOTONIC: of the hit, unless a collector set another */
	struct sk_buff *skb;		/* NULL if the probe has none */
	struct net_device *dev;
	struct net *net;
	s32 drop_reason;
	u8 has_drop_reason;
	u8 tracked;			/* `orig_head` and `first_seen` are set */
	u8 matched;			/* a collector knows the packet: it passes the filters */
	u16 probe;			/* index into the run's probes */
	unsigned char *head;		/* skb->head */
	u64 orig_head;
	u64 first_seen;
#if HAVE_VALUES
	const struct entry_args *args;	/* where the probe reports them: HIT_ARGS */
	u64 ret;			/* the same: HIT_RET */
#endif
	CONTEXT_MEMBERS			/* arguments that collectors asked for: Collector.arguments */
};

/* The few members of an sk_buff that decide whether a hit matters. Where a read is a call of a helper, they are read at
 * once: one bounded copy of [SKB_FIRST, SKB_END), offsets from BTF. */
struct skb_brief {
	struct sk_buff *skb;
#if !DIRECT_READS
	u8 bytes[SKB_END - SKB_FIRST] __attribute__((aligned(8)));
#endif
};

#if DIRECT_READS
#define BRIEF(brief, member) READ((brief)->skb->member)
#else
#define BRIEF(brief, member)                                                   \
	(*(typeof(((struct sk_buff *)0)->member) *)                            \
	 ((brief)->bytes + __builtin_offsetof(struct sk_buff, member) - SKB_FIRST))
#endif

static __always_inline int read_brief(struct skb_brief *brief, struct sk_buff *skb)
{
	brief->skb = skb;
#if DIRECT_READS
	return 0;
#else
	return bpf_probe_read_kernel(brief->bytes, sizeof(brief->bytes),
				     (void *)skb + SKB_FIRST);
#endif
}

/* include/linux/skbuff.h, skb_mac_header_was_set(); a header that coincides with a valid network header and has no
 * length is not there (sk_buff on the way out, before dev_hard_header()). */
static __always_inline int has_mac(u16 mac, u16 network, u32 mac_len)
{
	return mac != HEADER_UNSET &&
	       !(network != HEADER_UNSET && network == mac && mac_len == 0);
}

static __always_inline int has_network(u16 mac, u16 network, u32 mac_len)
{
	return network != HEADER_UNSET && network != 0 &&
	       !(mac != HEADER_UNSET && network == mac && mac_len != 0);
}

static __always_inline int has_transport(u16 transport, u16 network)
{
	return transport != HEADER_UNSET && transport != 0 && transport != network;
}
