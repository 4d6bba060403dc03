/* skb-tracking: the identity of a packet.  Python side: retis_py/collectors/skb_tracking.py */

static __always_inline void hook_skb_tracking(struct scratch *s, struct context *ctx)
{
	struct skb_tracking_raw *e;

	if (!ctx->tracked)
		return;
	e = section(s, SECTION_SKB_TRACKING, sizeof(*e));
	if (!e)
		return;
	e->orig_head = ctx->orig_head;
	e->timestamp = ctx->first_seen;
	e->skb = (u64)ctx->skb;
}
