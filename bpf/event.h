/* The event being built: a header, then the sections that hooks add, in per-CPU scratch memory. */

struct event {
	struct header_raw header;
	u8 data[MAX_EVENT - sizeof(struct header_raw)];
};

/* The scratch memory of one hit. A CPU has some: an interrupt's probe may come on top of a task's, and where programs can
 * be preempted (user space probes; tracepoints since they are guarded by SRCU, on preemptible kernels) hits end in any
 * order. */
struct scratch {
	struct event event;
	u32 users;		/* 1: taken */
	u32 slot;		/* which of the CPU's it is */
	u32 size;		/* bytes of event.data in use */
	u32 tail;		/* bytes of the tail in use, after `size` */
	struct sk_buff skb;	/* [SKB_FIRST, SKB_LAST) of it is copied: the rest is stale */
#if HAVE_CT
	struct nf_conn ct;	/* collector ct: the connection looked at */
#endif
};

BPF_PERCPU_ARRAY(scratch, struct scratch, SLOTS);

/* Takes scratch memory and tells the time. Others on this CPU may come at any point: memory is had by whose addition
 * made its users one. NULL: there is none left, or, hardly ever, two got into each other's way.
 *
 * From before the time is told until the memory is given back, the hit is one under way: no event that is not in the
 * buffers yet is older than those, so what puts events in order waits for them (retis_py/kernel/merge.py). */
static __always_inline struct scratch *take_scratch(u64 *now)
{
	struct cpu *cpu = this_cpu();
	struct scratch *s = NULL;
	u32 i, at;
	u64 slot;

#pragma unroll
	for (i = 0; i < SLOTS; i++) {
		at = i;
		s = scratch.lookup(&at);
		if (!s)
			return NULL;
		lock_xadd(&s->users, 1);
		if (*(volatile u32 *)&s->users == 1)
			break;
		lock_xadd(&s->users, -1);
		s = NULL;
	}
	if (!s || !cpu)
		return NULL;
	slot = i;
	OPAQUE(slot);
	slot &= SLOTS - 1;
	s->slot = slot;
	*(volatile u64 *)&cpu->since[slot] = 1;
	*now = bpf_ktime_get_ns();
	*(volatile u64 *)&cpu->since[slot] = *now;
	return s;
}

static __always_inline void give_scratch(struct scratch *s)
{
	struct cpu *cpu = this_cpu();
	u64 at = s->slot;

	OPAQUE(at);
	if (cpu)
		*(volatile u64 *)&cpu->since[at & (SLOTS - 1)] = 0;
	lock_xadd(&s->users, -1);
}

BPF_PERF_OUTPUT(events);

/* Room for the longest tail is kept free behind the sections: 255 bytes of packet, or 14 made up and 255 that the
 * verifier cannot rule out. */
enum { TAIL_MAX = 272 };

/* Adds a section of `size` bytes to the event and returns it, zeroed by the caller's full assignment: every hook sets
 * every member. NULL if there is no room. Reading `size` back from memory keeps it an unknown number to the verifier,
 * so that states of paths with and without a section can be merged. */
static __always_inline void *section(struct scratch *s, enum section_id id, u32 size)
{
	u32 at = s->size;

	if (at > sizeof(s->event.data) - TAIL_MAX - size)
		return NULL;
	s->size = at + size;
	s->event.header.sections |= 1U << id;
	return s->event.data + at;
}

static __always_inline void begin_event(struct scratch *s, struct context *ctx)
{
	struct header_raw *header = &s->event.header;

	header->timestamp = ctx->timestamp;
	header->sections = 0;
	header->probe = ctx->probe;
	header->cpu = bpf_get_smp_processor_id();
	header->pid_tgid = bpf_get_current_pid_tgid();
	bpf_get_current_comm(header->comm, sizeof(header->comm));
	s->size = 0;
	s->tail = 0;
}

static __always_inline void submit_event(struct scratch *s, struct context *ctx)
{
	u64 size = sizeof(struct header_raw) + (u64)s->size + s->tail;

	OPAQUE(size);
	if (size > sizeof(s->event))
		return;		/* cannot be: section() keeps TAIL_MAX free */
	if (events.perf_submit(ctx->bpf, &s->event, size))
		count_loss(ctx->probe, LOSS_BUFFER_FULL);
}
