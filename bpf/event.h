/* The event being built: a header, then the sections that hooks add, in per-CPU scratch memory. */

struct event {
	struct header_raw header;
	u8 data[MAX_EVENT - sizeof(struct header_raw)];
};

/* One hit's scratch memory. It is a level deeper when an interrupt's probe comes on top of a task's. */
struct scratch {
	struct event event;
	u32 size;		/* bytes of event.data in use */
	u32 tail;		/* bytes of the tail in use, after `size` */
	struct sk_buff skb;	/* [SKB_FIRST, SKB_LAST) of it is copied: the rest is stale */
#if HAVE_CT
	struct nf_conn ct;	/* collector ct: the connection looked at */
#endif
};

enum { LEVELS = 4 };		/* task, softirq, interrupt, NMI */
BPF_PERCPU_ARRAY(scratch, struct scratch, LEVELS);
BPF_PERCPU_ARRAY(level, u32, 1);

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
