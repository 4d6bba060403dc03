/* Many functions with one program: the probe is found by the function's address. */

BPF_HASH(functions, u64, u16, MAX_PROBES);

static __always_inline u16 *function_probe(struct pt_regs *regs)
{
	u64 address = bpf_get_func_ip(regs);

	return functions.lookup(&address);
}
