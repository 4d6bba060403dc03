/* kprobes that are added while collecting (--probe-stack): where their arguments are was not known when this was
 * compiled. */

struct positions {
	s16 skb, dev, net, drop_reason;	/* of the argument, -1: none */
};
BPF_ARRAY(positions, struct positions, MAX_PROBES);

/* The registers are read first, one by one: a load whose place depends on a number is refused for a program's context,
 * and the compiler would make one of a switch. */
static __always_inline u64 one_of(const u64 *args, s16 index)
{
	u64 arg = 0;

#pragma unroll
	for (int i = 0; i < ARGS_MAX; i++)
		if (index == i)
			arg = args[i];
	return arg;
}

static __always_inline int late_context(struct pt_regs *regs, struct context *ctx)
{
	u32 probe = ctx->probe;
	struct positions *at = positions.lookup(&probe);
	u64 args[ARGS_MAX];

	if (!at)
		return 1;
#pragma unroll
	for (int i = 0; i < ARGS_MAX; i++) {
		u64 arg = kprobe_arg(regs, i);

		OPAQUE(arg);
		args[i] = arg;
	}
	ctx->skb = (void *)one_of(args, at->skb);
	ctx->dev = (void *)one_of(args, at->dev);
	ctx->net = (void *)one_of(args, at->net);
	ctx->drop_reason = one_of(args, at->drop_reason);
	ctx->has_drop_reason = at->drop_reason >= 0;
	return at->skb >= 0 && !ctx->skb;
}
