/* dev: the interface a packet was on.  Python side: retis_py/collectors/dev.py */

static __always_inline void hook_dev(struct scratch *s, struct context *ctx)
{
	struct net_device *dev = ctx->dev;
	struct dev_raw *e;
	u32 ifindex, iif = 0;

	if (ctx->skb) {
		/* skb->dev shares its place with other things until the packet is the stack's: tracked ones only */
		if (!ctx->tracked)
			return;
		dev = s->skb.dev;
		iif = s->skb.skb_iif;
	}
	if (!dev)
		return;
	ifindex = READ(dev->ifindex);
	if (!ifindex)
		return;
	e = section(s, SECTION_DEV, sizeof(*e));
	if (!e)
		return;
	e->ifindex = ifindex;
	e->iif = iif;
	if (bpf_probe_read_kernel(e->name, sizeof(e->name), dev->name))
		__builtin_memset(e->name, 0, sizeof(e->name));
}
