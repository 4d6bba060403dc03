/* Core of every run: kernel reads, settings, and the losses that must not go unseen.
 *
 * What comes before this file in the text of a run: <linux/types.h>, the kernel's own types printed from BTF, and
 * macros for what is decided before compiling (HAVE_..., SKB_..., TRACKING_...; `retis collect --show-bpf` shows them).
 */

#if DIRECT_READS
/* A pointer to any kernel memory that a program may read through, as if it led to a type that has a 64-bit number at its
 * beginning: the JIT compiler checks the address, a fault gives 0. The call is the kernel's own function, by its BTF id,
 * and costs nothing, as the verifier turns it into a move. Linux commit a35b9af4ec2c ("bpf: Add a kfunc for generic type
 * cast") (in v6.2). */
static const volatile void *(*rdonly_cast)(const void *at, u64 type) = (void *)RDONLY_CAST;
#endif

/* Fills `to` with what is at the kernel's address `at`, with 0 if it cannot be read, which below 0 says: of a direct read
 * nothing does. The size is a constant. */
static __always_inline s64 read_number(void *to, u32 size, const void *at)
{
#if DIRECT_READS
	if (size == 8)
		*(u64 *)to = *(const volatile u64 *)rdonly_cast(at, DIRECT_TYPE);
	else if (size == 4)
		*(u32 *)to = *(const volatile u32 *)rdonly_cast(at, DIRECT_TYPE);
	else if (size == 2)
		*(u16 *)to = *(const volatile u16 *)rdonly_cast(at, DIRECT_TYPE);
	else if (size == 1)
		*(u8 *)to = *(const volatile u8 *)rdonly_cast(at, DIRECT_TYPE);
	else
		return bpf_probe_read_kernel(to, size, at);
	return 0;
#else
	return bpf_probe_read_kernel(to, size, at);
#endif
}

/* Reads one member through a kernel pointer; a failed read gives 0. */
#define READ(place)                                                            \
	({                                                                     \
		typeof(place) value_;                                          \
		read_number(&value_, sizeof(value_), (const void *)&(place));  \
		value_;                                                        \
	})

/* Makes the compiler check and use a number in one and the same 64-bit register, or the verifier loses track. */
#define OPAQUE(number) asm volatile("" : "+r"(number))

/* include/linux/skbuff.h: a header offset that was never set */
#define HEADER_UNSET ((u16)~0U)

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ntohs(value) ((u16)__builtin_bswap16(value))	/* its own inverse, as is the next */
#define ntohl(value) ((u32)__builtin_bswap32(value))
#else
#define ntohs(value) ((u16)(value))
#define ntohl(value) ((u32)(value))
#endif

#define ETH_HLEN 14	/* include/uapi/linux/if_ether.h */

/* What user space tells the programs while they run. */
struct settings {
	/* set after the last attach, cleared before the first detach: no event from half a set of probes */
	u32 enabled;
	/* tracking entries that the garbage collector deleted */
	u32 collected;
};
BPF_ARRAY(settings, struct settings, 1);

/* The only element of an array, its address put in place when the program is loaded: no lookup, nothing to check. */
#define ELEMENT(type, mark)                                                    \
	({                                                                     \
		type *element_;                                                \
		asm volatile("%0 = %1 ll" : "=r"(element_) : "i"(mark));       \
		element_;                                                      \
	})

/* Why something is missing, counted per probe and per CPU. Keep in step with retis_py/kernel/losses.py. */
enum loss {
	LOSS_BUFFER_FULL,	/* perf buffer without room */
	LOSS_NESTED,		/* more hits under way on the CPU than there is scratch memory for */
	LOSS_UNTRACKED,		/* tracking map full: reported, but without identity */
	LOSS_UNFOLLOWED,	/* a collector's table full: what would have come later of the packet is missing */
	LOSSES,
};
BPF_PERCPU_ARRAY(losses, u64, MAX_PROBES * LOSSES);

/* What the reader looks at again and again, so it is mapped into its memory: a system call on a map would keep the
 * kernel from running kprobes' programs on that CPU meanwhile (bpf_disable_instrumentation()). */
enum { SLOTS = 8 };
struct cpu {
	u64 since[SLOTS];	/* ns, when hits under way began; 0: none, 1: one is just beginning */
	u64 lost[LOSSES];	/* sums of `losses` */
	u64 passed;		/* hits that passed the filters where events are reported */
	u64 empty;		/* of them those that no collector had anything to say of */
	u64 pad[2];		/* CPUs do not share cache lines */
};
BPF_F_TABLE("array", u32, struct cpu, cpus, CPUS, 1024 /* BPF_F_MMAPABLE */);

static __always_inline struct cpu *this_cpu(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	return cpus.lookup(&cpu);
}

/* Additions are atomic: a hit of the same CPU may come in between. */
static __always_inline void count_passed(void)
{
	struct cpu *cpu = this_cpu();

	if (cpu)
		lock_xadd(&cpu->passed, 1);
}

static __always_inline void count_empty(void)
{
	struct cpu *cpu = this_cpu();

	if (cpu)
		lock_xadd(&cpu->empty, 1);
}

static __always_inline void count_loss(u16 probe, enum loss why)
{
	u32 key = probe * LOSSES + why;
	u64 *count = losses.lookup(&key);
	struct cpu *cpu = this_cpu();

	if (count)
		lock_xadd(count, 1);
	if (cpu)
		lock_xadd(&cpu->lost[why], 1);
}
