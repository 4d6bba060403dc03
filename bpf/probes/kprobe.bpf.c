/* kprobe: the entry of a function; its first arguments are in registers. */

static __always_inline u64 kprobe_arg(struct pt_regs *regs, int index)
{
	switch (index) {
	case 0: return PT_REGS_PARM1(regs);
	case 1: return PT_REGS_PARM2(regs);
	case 2: return PT_REGS_PARM3(regs);
	case 3: return PT_REGS_PARM4(regs);
	case 4: return PT_REGS_PARM5(regs);
#ifdef PT_REGS_PARM6
	case 5: return PT_REGS_PARM6(regs);
#endif
	default: return 0;
	}
}
