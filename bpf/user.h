/* A hit of a user space probe: no packet, so no filter and no tracking; its one hook says whether there is an event.
 * These programs may be preempted.
 *
 * Their stack must be the thread's. Since v6.13 ("bpf: Find eligible subprogs for private stack support") the kernel puts
 * that of such a program into memory of the CPU, where a thread that preempts another in the same program overwrites
 * it: of a thousand hits of four threads some were reported twice and others never. A program with a tail call is left
 * out of that, so each has one, into a table that stays empty. */
BPF_PROG_ARRAY(no_private_stack, 1);

struct user_event {		/* a struct event */
	struct header_raw header;
	struct user_raw user;
	u8 section[32];
};

/* The event's only section; its hook returns sizeof() of it. */
static __always_inline void *user_section(struct user_event *e, enum section_id id)
{
	e->header.sections |= 1U << id;
	return e->section;
}

/* Scratch memory for the event; NULL if there shall be none. */
static __always_inline struct scratch *begin_user_hit(struct context *ctx)
{
	struct settings *set = ELEMENT(struct settings, SETTINGS_MARK);
	struct scratch *s;

	if (!set->enabled)
		return NULL;
	s = take_scratch(&ctx->timestamp);
	if (s) {
		s->event.header.sections = 0;
	} else {
		count_passed();
		count_loss(ctx->probe, LOSS_NESTED);
	}
	return s;
}

static __always_inline void submit_user_event(struct user_event *e, struct context *ctx, u32 size)
{
	struct pt_regs *regs = ctx->bpf;
	struct header_raw *header = &e->header;

	count_passed();
	header->timestamp = ctx->timestamp;
	header->sections |= 1U << SECTION_USER;
	header->probe = ctx->probe;
	header->cpu = bpf_get_smp_processor_id();
	header->pid_tgid = bpf_get_current_pid_tgid();
	bpf_get_current_comm(header->comm, sizeof(header->comm));
	e->user.ip = PT_REGS_IP(regs);
	if (events.perf_submit(regs, e, sizeof(e->header) + sizeof(e->user) + size))
		count_loss(ctx->probe, LOSS_BUFFER_FULL);
}
