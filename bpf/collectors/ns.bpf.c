/* ns: the network namespace a packet was in.  Python side: retis_py/collectors/ns.py */

/* Of the device the packet is on, else of its socket, else of what the probe was given. */
static __always_inline struct net *context_net(struct scratch *s, struct context *ctx)
{
	struct net_device *dev = ctx->dev;
	struct net *net = NULL;
	struct sock *sk;

	if (ctx->skb) {
		if (!ctx->tracked)
			return NULL;
		if (s->skb.dev)
			net = READ(s->skb.dev->nd_net.net);
		sk = s->skb.sk;
		if (!net && sk)
			net = READ(sk->__sk_common.skc_net.net);
		if (net)
			return net;
	}
	if (ctx->net)
		return ctx->net;
	return dev ? READ(dev->nd_net.net) : NULL;
}

static __always_inline void hook_ns(struct scratch *s, struct context *ctx)
{
	struct net *net = context_net(s, ctx);
	struct ns_raw *e;
	u32 inum;

	if (!net)
		return;
	inum = READ(net->ns.inum);
	if (!inum)
		return;
	e = section(s, SECTION_NS, sizeof(*e));
	if (!e)
		return;
#if HAVE_NET_COOKIE
	e->cookie = READ(net->net_cookie);
#else
	e->cookie = 0;
#endif
	e->inum = inum;
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
}
