/* skb-drop: why a packet was dropped.  Python side: retis_py/collectors/skb_drop.py */

static __always_inline void hook_skb_drop(struct scratch *s, struct context *ctx)
{
	struct skb_drop_raw *e;

	if (!ctx->skb || !ctx->has_drop_reason)
		return;
	e = section(s, SECTION_SKB_DROP, sizeof(*e));
	if (!e)
		return;
	e->reason = ctx->drop_reason;
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
}
