/* raw tracepoint: its arguments are those of TP_PROTO(), one per word. */

static __always_inline u64 raw_tracepoint_arg(struct bpf_raw_tracepoint_args *args, int index)
{
	return args->args[index];
}
