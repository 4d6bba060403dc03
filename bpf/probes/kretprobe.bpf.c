/* kretprobe: the return of a function. Its arguments are gone by then: a kprobe at the entry keeps them, under the
 * address of the return address, which is the same at both ends of a call and different for every call under way,
 * nested and concurrent ones included; but for one function that ends by jumping to another, so the probe is part of
 * the key. */

struct call {
	u64 sp;
	u64 probe;
};

/* A return can be missed (maxactive): the oldest entries make room. */
BPF_TABLE("lru_hash", struct call, struct entry_args, entries, 4096);

#if defined(__TARGET_ARCH_x86) || defined(__x86_64__) || defined(bpf_target_x86)
#define RETURN_SLOT 8	/* `ret` has taken the return address off the stack */
#else
#define RETURN_SLOT 0
#endif

static __always_inline int keep_args(struct pt_regs *regs, u16 probe)
{
	struct call key = { PT_REGS_SP(regs), probe };
	struct entry_args kept = {};

	kept.args[0] = PT_REGS_PARM1(regs);
	kept.args[1] = PT_REGS_PARM2(regs);
	kept.args[2] = PT_REGS_PARM3(regs);
	kept.args[3] = PT_REGS_PARM4(regs);
	kept.args[4] = PT_REGS_PARM5(regs);
#ifdef PT_REGS_PARM6
	kept.args[5] = PT_REGS_PARM6(regs);
#endif
	entries.update(&key, &kept);
	return 0;
}

/* The arguments of the call that returns; 0 if its entry was not seen. */
static __always_inline int take_args(struct pt_regs *regs, u16 probe, struct entry_args *kept)
{
	struct call key = { PT_REGS_SP(regs) - RETURN_SLOT, probe };
	struct entry_args *found = entries.lookup(&key);

	if (!found)
		return 0;
	*kept = *found;
	entries.delete(&key);
	return 1;
}
