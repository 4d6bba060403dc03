/* Many functions with one program: the probe, and where its arguments are, is found by the function's address. */

struct function {
	u16 probe;
	s16 skb, dev, net, drop_reason;	/* of the argument, -1: none */
};
BPF_HASH(functions, u64, struct function, MAX_PROBES);

static __always_inline struct function *this_function(struct pt_regs *regs)
{
	u64 address = bpf_get_func_ip(regs);

	return functions.lookup(&address);
}

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

/* Fills the context from the arguments of *function*; 0 if its packet is not there. */
static __always_inline int find_arguments(struct pt_regs *regs, struct function *function, struct context *ctx)
{
	u64 args[ARGS_MAX];

#pragma unroll
	for (int i = 0; i < ARGS_MAX; i++) {
		u64 arg = kprobe_arg(regs, i);

		OPAQUE(arg);
		args[i] = arg;
	}
	ctx->skb = (void *)one_of(args, function->skb);
	ctx->dev = (void *)one_of(args, function->dev);
	ctx->net = (void *)one_of(args, function->net);
	ctx->drop_reason = one_of(args, function->drop_reason);
	ctx->has_drop_reason = function->drop_reason >= 0;
	return function->skb < 0 || ctx->skb;
}
