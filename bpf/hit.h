/* One hit of a kernel probe, from the context its program built to the event submitted, in this order: enabled flag,
 * filter, tracking, sections, submit, end of tracking. An unmatched hit costs a copy of a few header offsets, a lookup
 * and the filter. */

enum hit_flags {
	HIT_SILENT = 1 << 8,	/* tracking only: the user did not ask for events of this probe */
	HIT_STACK = 1 << 9,	/* with a stack trace */
	HIT_ARGS = 1 << 12,	/* with the function's arguments */
	HIT_RET = 1 << 13,	/* with its return value */
	/* from 1 << 16 on: hooks and observers that only some probes run, see run_hooks() and run_observers() */
};

#if HAVE_STACK
BPF_TABLE("stacktrace", int, struct bpf_stacktrace, stacks, STACK_ENTRIES);

static __always_inline void add_stack(struct scratch *s, struct context *ctx)
{
	struct stack_raw *e = section(s, SECTION_STACK, sizeof(*e));

	if (e)
		e->id = stacks.get_stackid(ctx->bpf, BPF_F_FAST_STACK_CMP);
}
#endif

#if HAVE_VALUES
static __always_inline void add_values(struct scratch *s, struct context *ctx, u32 flags)
{
	if (flags & HIT_ARGS) {
		struct args_raw *e = section(s, SECTION_ARGS, sizeof(*e));

		if (e)
			__builtin_memcpy(e->registers, ctx->args->args, sizeof(e->registers));
	}
	if (flags & HIT_RET) {
		struct ret_raw *e = section(s, SECTION_RET, sizeof(*e));

		if (e)
			e->value = ctx->ret;
	}
}
#endif

static __always_inline void report(struct scratch *s, struct context *ctx, u32 flags)
{
	u32 sections = 0;

	begin_event(s, ctx);
#if HAVE_STACK
	if (flags & HIT_STACK)
		add_stack(s, ctx);
#endif
#if HAVE_VALUES
	add_values(s, ctx, flags);
#endif
	if (!run_hooks(s, ctx, flags))
		sections = s->event.header.sections & ~(1U << SECTION_STACK);
	if (sections)
		submit_event(s, ctx);
	else
		count_empty();
}

static __always_inline int hit(struct context *ctx, u32 flags)
{
	struct tracking_info *info = NULL;
	struct scratch *s = NULL;
	struct skb_brief brief;
	struct settings *set = ELEMENT(struct settings, SETTINGS_MARK);
	struct tracked *count = ELEMENT(struct tracked, TRACKED_MARK);
	u64 now = 0;

	if (!set->enabled)
		return 0;
	if (ctx->skb) {
		if (read_brief(&brief, ctx->skb))
			return 0;
		ctx->head = BRIEF(&brief, head);
		info = find_tracking(ctx->skb, ctx->head, set, count);
		if (!info && !ctx->matched && !(packet_matches(&brief, ctx->head) && meta_matches(ctx->skb)))
			return 0;
	} else if (HAVE_FILTER) {	/* nothing to match: not what was asked for */
		return 0;
	}
	if (!(flags & HIT_SILENT)) {
		count_passed();
		s = take_scratch(&now);
		if (!s)
			count_loss(ctx->probe, LOSS_NESTED);
	}
	if (!ctx->timestamp)
		ctx->timestamp = now ? now : bpf_ktime_get_ns();
	if (ctx->skb)
		track(ctx, count, info, flags);
	run_observers(ctx, flags);
	if (s) {
		report(s, ctx, flags);
		give_scratch(s);
	}
	if (flags & TRACK_FREE && (!(flags & TRACK_LAST) || last_user(ctx->skb, &brief)))
		untrack(ctx->skb, ctx->head, set, count);
	return 0;
}

/* A hit that only matters to tracking because it is the end of the packet's data. */
static __always_inline int hit_free(struct context *ctx, u32 flags)
{
	struct settings *set = ELEMENT(struct settings, SETTINGS_MARK);
	struct tracked *count = ELEMENT(struct tracked, TRACKED_MARK);
	struct skb_brief brief;

	if (!set->enabled || count->entries == set->collected || read_brief(&brief, ctx->skb))
		return 0;
	if (!(flags & TRACK_LAST) || last_user(ctx->skb, &brief))
		untrack(ctx->skb, BRIEF(&brief, head), set, count);
	return 0;
}

#if REDUCED
/* Memory is freed: the head of a tracked packet, perhaps. TCP frees its packets without any tracepoint of skb's, so
 * without kprobes this is how their identity ends; while nothing is tracked it costs next to nothing. */
static __always_inline int memory_freed(u64 address)
{
	struct settings *set = ELEMENT(struct settings, SETTINGS_MARK);
	struct tracked *count = ELEMENT(struct tracked, TRACKED_MARK);

	if (count->entries == set->collected)
		return 0;
	if (tracking.lookup(&address))
		delete_entry(count, &address);
	return 0;
}
#endif
