/* ovs: what Open vSwitch does with a packet.  Python side: retis_py/collectors/ovs.py
 *
 * What is under way is filed under something that belongs to one call alone, so that calls on other CPUs, calls inside
 * others (recirculation, tunnels to a local port) and softirqs on top of a task never mix:
 *
 *   an upcall     under the current task: the datapath runs with bottom halves off, so until it is over that task does
 *                 nothing else, and nothing else runs as that task. What a missed return left behind is told by the
 *                 address of the caller's struct dp_upcall_info.
 *   a look-up     under the address of the flow key, which is its caller's own (its stack, or per-CPU memory it holds).
 *   a command     under the identity of its packet, and its actions by their place in the memory that was allocated
 *                 for this one command.
 *
 * The base of the stack would be none of these: calls inside others share it, and x86 maps its interrupt stacks
 * without aligning them to their size.
 *
 * A packet is followed through user space by a hash of its first bytes, its queue id. It is waited for before the
 * message can be received, not when queue_userspace_packet() returns: the handler may be faster than that.
 *
 * All tables evict what was not used for longest, so what a task left behind that died, or a return that was missed, is
 * no obstacle. The kernel hands each CPU up to 128 free entries of such a table (kernel/bpf/bpf_lru_list.c), and may
 * evict some in use while other CPUs have free ones: OVS_CALLS is that many for each CPU, and room for those in use.
 */

enum { OVS_HASHED = 64 };	/* bytes of the packet */
enum { OVS_WORDS = OVS_HASHED / 4 };
#define OVS_EPOCH 30000000000ULL	/* ns: a packet is waited for through this one and the next */

#define NLA_TYPE_MASK 0x3fff	/* include/uapi/linux/netlink.h: without the two flag bits */
#define NLA_HDRLEN 4

struct ovs_upcall {
	u64 info;		/* struct dp_upcall_info * */
	u64 timestamp;		/* of the upcall event */
	u64 queued;		/* when the copy for user space was made; 0: not yet */
	u32 cpu;		/* of the upcall event */
	u32 queue_id;
};
BPF_TABLE("lru_hash", u64, struct ovs_upcall, ovs_upcalls, OVS_CALLS);

/* Packets on their way to user space, and on their way back.
 *
 * An entry is inserted once, by one CPU, and then only added to and taken from: no CPU overwrites what another has
 * counted. It is not deleted when its count is 0, as another CPU may be about to add to it; it is not used again once
 * its epoch and the next are over, and the table evicts the entries that are not used. That can hit a packet that is
 * waited for only when the table's size of others came after it, which is more than the sockets of 64 handlers hold
 * (1 MiB each, over 1 KiB a packet).
 */
enum ovs_stage { OVS_QUEUED, OVS_RETURNING };
struct ovs_place {
	u32 hash;
	u16 stage;
	u16 epoch;
};
struct ovs_waiting {
	s32 count;		/* how many alike */
	u32 queue_id;		/* of the last one */
};
BPF_TABLE("lru_hash", struct ovs_place, struct ovs_waiting, ovs_waiting, 65536);

struct ovs_packet {
	u64 orig_head;
	u64 first_seen;
};
struct ovs_command {
	u64 actions;		/* where the actions of the command are, once it executes them */
	u64 end;
	u32 queue_id;
	u32 pad;
};
BPF_TABLE("lru_hash", struct ovs_packet, struct ovs_command, ovs_commands, 8192);

BPF_TABLE("lru_hash", u64, u64, ovs_lookups, OVS_CALLS);	/* flow key -> sk_buff */

/* include/linux/jhash.h, jhash() of OVS_HASHED bytes with an initval of 0; retis_py/collectors/ovs_queue.py is its twin */
#define OVS_ROL(word, shift) ((word) << (shift) | (word) >> (32 - (shift)))
#define OVS_MIX(a, b, c)                                                       \
	{                                                                      \
		a -= c; a ^= OVS_ROL(c, 4); c += b;                            \
		b -= a; b ^= OVS_ROL(a, 6); a += c;                            \
		c -= b; c ^= OVS_ROL(b, 8); b += a;                            \
		a -= c; a ^= OVS_ROL(c, 16); c += b;                           \
		b -= a; b ^= OVS_ROL(a, 19); a += c;                           \
		c -= b; c ^= OVS_ROL(b, 4); b += a;                            \
	}

static __always_inline u32 ovs_hash(const u32 *words)
{
	u32 a, b, c;
	int i;

	a = b = c = 0xdeadbeef + OVS_HASHED;
#pragma unroll
	for (i = 0; i < OVS_WORDS - 1; i += 3) {
		a += words[i];
		b += words[i + 1];
		c += words[i + 2];
		OVS_MIX(a, b, c);
	}
	a += words[OVS_WORDS - 1];
	c ^= b; c -= OVS_ROL(b, 14);
	a ^= c; a -= OVS_ROL(c, 11);
	b ^= a; b -= OVS_ROL(a, 25);
	c ^= b; c -= OVS_ROL(b, 16);
	a ^= c; a -= OVS_ROL(c, 4);
	b ^= a; b -= OVS_ROL(a, 14);
	c ^= b; c -= OVS_ROL(b, 24);
	return c;
}

/* The first bytes of *skb*'s linear data, *len* of which user space gets. */
static __always_inline void ovs_read_skb(u32 *words, struct sk_buff *skb, u32 len)
{
	u64 size = READ(skb->len) - READ(skb->data_len);

	if (size > len)
		size = len;
	OPAQUE(size);
	if (size > OVS_HASHED)
		size = OVS_HASHED;
	bpf_probe_read_kernel(words, size, READ(skb->data));
}

static __always_inline void
ovs_wait(struct context *ctx, u32 hash, enum ovs_stage stage, u32 queue_id, u64 now)
{
	struct ovs_place place = { hash, stage, now / OVS_EPOCH };
	struct ovs_waiting none = { 0, queue_id }, *found = ovs_waiting.lookup(&place);

	if (!found) {
		ovs_waiting.insert(&place, &none);	/* fails if another CPU was faster */
		found = ovs_waiting.lookup(&place);
	}
	if (!found) {
		count_loss(ctx->probe, LOSS_UNFOLLOWED);
		return;
	}
	found->queue_id = queue_id;
	lock_xadd(&found->count, 1);
}

/* Ends the wait for a packet by its hash; 0 if nobody waits for it. */
static __always_inline int ovs_found(u32 hash, enum ovs_stage stage, u32 *queue_id)
{
	struct ovs_place place = { hash, stage, bpf_ktime_get_ns() / OVS_EPOCH };
	struct ovs_waiting *found = ovs_waiting.lookup(&place);

	if (!found || found->count <= 0) {
		place.epoch--;
		found = ovs_waiting.lookup(&place);
		if (!found || found->count <= 0)
			return 0;
	}
	lock_xadd(&found->count, -1);
	*queue_id = found->queue_id;
	return 1;
}

/* Is a packet, with *words* as its first bytes, one that was queued? Of a segment, only the headers may have been
 * linear, and known, then: its payload was in pages. */
static __always_inline int ovs_was_queued(u32 *words, u32 *queue_id)
{
#define OVS_CUT(size)                                                          \
	__builtin_memset((u8 *)words + (size), 0, OVS_HASHED - (size));        \
	if (ovs_found(ovs_hash(words), OVS_QUEUED, queue_id))                  \
		return 1
	OVS_CUT(OVS_HASHED);
	OVS_CUT(ETH_HLEN + 40 + 8);		/* IPv6, UDP */
	OVS_CUT(ETH_HLEN + 4 + 20 + 20);	/* VLAN, IPv4, TCP */
	OVS_CUT(ETH_HLEN + 20 + 20);		/* IPv4, TCP */
	OVS_CUT(ETH_HLEN + 4 + 20 + 8);		/* VLAN, IPv4, UDP */
	OVS_CUT(ETH_HLEN + 20 + 8);		/* IPv4, UDP */
#undef OVS_CUT
	return 0;
}

/* tp:openvswitch:ovs_dp_upcall: before the filter decides whether this one is reported */
static __always_inline int ovs_upcall_begins(struct context *ctx)
{
	u64 task = bpf_get_current_task();

	if (ovs_upcalls.lookup(&task))	/* its return was missed */
		ovs_upcalls.delete(&task);
	return 0;
}

static __always_inline int hook_ovs_upcall(struct scratch *s, struct context *ctx)
{
	struct dp_upcall_info *info = (void *)ctx->ovs_info;
	struct ovs_upcall upcall = {};
	u64 task = bpf_get_current_task();
	struct ovs_upcall_raw *e;

	e = section(s, SECTION_OVS_UPCALL, sizeof(*e));
	if (!e)
		return 0;
	e->port = READ(info->portid);
	e->cpu = s->event.header.cpu;
	e->cmd = READ(info->cmd);
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
	upcall.info = ctx->ovs_info;
	upcall.timestamp = ctx->timestamp;
	upcall.cpu = e->cpu;
	if (ovs_upcalls.update(&task, &upcall))
		count_loss(ctx->probe, LOSS_UNFOLLOWED);
	return 0;
}

/* The upcall that a returning function belongs to, NULL if it is not reported. */
static __always_inline struct ovs_upcall *ovs_this_upcall(struct context *ctx)
{
	u64 task = bpf_get_current_task();
	struct ovs_upcall *upcall = ovs_upcalls.lookup(&task);

	return upcall && upcall->info == ctx->ovs_info ? upcall : NULL;
}

/* kprobe:skb_zerocopy, skb_zerocopy(to, from, len, hlen): queue_userspace_packet() copies into its message what user
 * space gets, of the packet or, a VLAN tag being put back, of a clone; checksums are complete by now. */
static __always_inline int ovs_packet_copied(struct context *ctx)
{
	struct pt_regs *regs = ctx->bpf;
	u64 task = bpf_get_current_task();
	struct ovs_upcall *upcall = ovs_upcalls.lookup(&task);
	u32 words[OVS_WORDS] = {};
	u64 now;

	if (!upcall)
		return 0;
	now = bpf_ktime_get_ns();
	ovs_read_skb(words, (void *)PT_REGS_PARM2(regs), PT_REGS_PARM3(regs));
	upcall->queue_id = ovs_hash(words);
	upcall->queued = now;
	ovs_wait(ctx, upcall->queue_id, OVS_QUEUED, upcall->queue_id, now);
	return 0;
}

/* kretprobe:queue_userspace_packet: the event is of when the packet was queued, as it may be received, by an earlier
 * event than one of now, already. A segment of a packet needs not match the filter to belong to it. */
static __always_inline int ovs_enqueue_returns(struct context *ctx)
{
	struct ovs_upcall *upcall = ovs_this_upcall(ctx);

	if (upcall) {
		ctx->matched = 1;
		ctx->timestamp = upcall->queued;
	}
	return 0;
}

static __always_inline int hook_ovs_enqueue(struct scratch *s, struct context *ctx)
{
	struct ovs_upcall *upcall = ovs_this_upcall(ctx);
	struct dp_upcall_info *info = (void *)ctx->ovs_info;
	struct ovs_enqueue_raw *e;
	u32 queue_id;

	if (!upcall)
		return 1;
	e = section(s, SECTION_OVS_ENQUEUE, sizeof(*e));
	if (!e)
		return 0;
	e->upcall_ts = upcall->timestamp;
	e->upcall_cpu = upcall->cpu;
	e->queue_id = upcall->queued ? upcall->queue_id : 0;
	e->port = READ(info->portid);
	e->ret = ctx->ret;
	e->cmd = READ(info->cmd);
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
	if (upcall->queued && e->ret)	/* not queued after all */
		ovs_found(upcall->queue_id, OVS_QUEUED, &queue_id);
	upcall->queued = 0;
	return 0;
}

/* kretprobe:ovs_dp_upcall */
static __always_inline int ovs_upcall_returns(struct context *ctx)
{
	if (ovs_this_upcall(ctx))
		ctx->matched = 1;
	return 0;
}

static __always_inline int hook_ovs_return(struct scratch *s, struct context *ctx)
{
	struct ovs_upcall *upcall = ovs_this_upcall(ctx);
	u64 task = bpf_get_current_task();
	struct ovs_return_raw *e;

	if (!upcall)
		return 1;
	e = section(s, SECTION_OVS_RETURN, sizeof(*e));
	if (e) {
		e->upcall_ts = upcall->timestamp;
		e->upcall_cpu = upcall->cpu;
		e->ret = ctx->ret;
	}
	ovs_upcalls.delete(&task);
	return 0;
}

/* kprobe:ovs_flow_key_extract_userspace: a packet that user space sent with a command, in a new sk_buff. One that is
 * waited for matches by that; it had to pass the filter on its way up. */
static __always_inline int ovs_packet_injected(struct context *ctx)
{
	u32 words[OVS_WORDS] = {}, queue_id;

	ovs_read_skb(words, ctx->skb, OVS_HASHED);
	if (ovs_found(ovs_hash(words), OVS_RETURNING, &queue_id) || ovs_was_queued(words, &queue_id)) {
		ctx->ovs_queue_id = queue_id;
		ctx->ovs_command = ctx->matched = 1;
	}
	return 0;
}

static __always_inline void ovs_command_begins(struct context *ctx)
{
	struct ovs_packet packet = { ctx->orig_head, ctx->first_seen };
	struct ovs_command command = {};

	if (!ctx->ovs_command || !ctx->tracked)
		return;
	command.queue_id = ctx->ovs_queue_id;
	if (ovs_commands.update(&packet, &command))
		count_loss(ctx->probe, LOSS_UNFOLLOWED);
}

/* kprobe:ovs_execute_actions: the first one for the packet of a command is the command's. Its actions are where no other
 * packet's are; what a recirculation does later is in the memory of a flow. */
static __always_inline void ovs_actions_begin(struct context *ctx)
{
	struct ovs_packet packet = { ctx->orig_head, ctx->first_seen };
	struct sw_flow_actions *actions = (void *)ctx->ovs_actions;
	struct ovs_command *command;

	if (!ctx->tracked)
		return;
	command = ovs_commands.lookup(&packet);
	if (!command || command->end)
		return;
	command->actions = (u64)actions;
	command->end = (u64)actions + sizeof(*actions) + READ(actions->actions_len);
}

/* net/openvswitch/conntrack.c, enum ovs_ct_nat and struct ovs_conntrack_info; include/uapi/linux/netfilter/nf_nat.h for
 * the flags of a range; include/uapi/linux/netfilter.h for families */
enum {
	OVS_CT_COMMIT = 1 << 0,
	OVS_CT_FORCE = 1 << 1,
	OVS_CT_IPV4 = 1 << 2,
	OVS_CT_IPV6 = 1 << 3,
	OVS_CT_NAT = 1 << 4,		/* this and the next two: nat << 4 */
	OVS_CT_NAT_SRC = 1 << 5,
	OVS_CT_NAT_DST = 1 << 6,
	OVS_CT_RANGE_IPS = 1 << 7,	/* from here on: range.flags, rearranged */
	OVS_CT_RANGE_PORTS = 1 << 8,
	OVS_CT_HASH = 1 << 9,
	OVS_CT_PERSISTENT = 1 << 10,
	OVS_CT_RANDOM = 1 << 11,
};

static __always_inline void ovs_add_ct(struct scratch *s, void *data)
{
	struct ovs_ct_raw *e = section(s, SECTION_OVS_CT, sizeof(*e));
	struct ovs_conntrack_info *info;
	u32 at = s->size, flags;

	/* what section() keeps free for the end of the event is room to look at the action in */
	_Static_assert(sizeof(*info) <= TAIL_MAX, "struct ovs_conntrack_info");
	if (!e || at > sizeof(s->event.data) - TAIL_MAX)
		return;
	info = (void *)s->event.data + at;
	if (bpf_probe_read_kernel(info, sizeof(*info), data))
		__builtin_memset(info, 0, sizeof(*info));
	flags = info->commit ? OVS_CT_COMMIT : 0;
	flags |= info->force ? OVS_CT_FORCE : 0;
	flags |= info->family == 2 ? OVS_CT_IPV4 : info->family == 10 ? OVS_CT_IPV6 : 0;
	e->zone = info->zone.id;
#if HAVE_OVS_NAT
	flags |= info->nat << 4;
	flags |= (info->range.flags & 7) << 7;
	flags |= info->range.flags & 1 << 3 ? OVS_CT_PERSISTENT : 0;
	flags |= info->range.flags & 1 << 4 ? OVS_CT_RANDOM : 0;
	__builtin_memcpy(e->min_addr, info->range.min_addr, sizeof(e->min_addr));
	__builtin_memcpy(e->max_addr, info->range.max_addr, sizeof(e->max_addr));
	e->min_port = ntohs(*(u16 *)info->range.min_proto);
	e->max_port = ntohs(*(u16 *)info->range.max_proto);
#else
	__builtin_memset(e->min_addr, 0, sizeof(e->min_addr));
	__builtin_memset(e->max_addr, 0, sizeof(e->max_addr));
	e->min_port = e->max_port = 0;
#endif
	e->flags = flags;
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
}

static __always_inline int hook_ovs_action(struct scratch *s, struct context *ctx)
{
	struct ovs_packet packet = { ctx->orig_head, ctx->first_seen };
	struct nlattr *attr = (void *)ctx->ovs_attr;
	struct sw_flow_key *key = (void *)ctx->ovs_key;
	void *data = (void *)attr + NLA_HDRLEN;
	struct ovs_command *command = NULL;
	struct ovs_action_raw *e;
	u16 type;

	e = section(s, SECTION_OVS_ACTION, sizeof(*e));
	if (!e)
		return 0;
	type = READ(attr->nla_type) & NLA_TYPE_MASK;
	if (ctx->tracked)
		command = ovs_commands.lookup(&packet);
	if (command && ctx->ovs_attr >= command->actions && ctx->ovs_attr < command->end) {
		e->queue_id = command->queue_id;
		e->command = 1;
	} else {
		e->queue_id = 0;
		e->command = 0;
	}
	e->recirc_id = READ(key->recirc_id);
	e->action = type;
	e->value = 0;
	if (type == OVS_OUTPUT || type == OVS_RECIRC || type == OVS_DROP)
		bpf_probe_read_kernel(&e->value, sizeof(e->value), data);
	else if (type == OVS_CT)
		ovs_add_ct(s, data);
	return 0;
}

/* kprobe:ovs_dp_process_packet, for every packet of the datapath, then for those that matched */
static __always_inline int ovs_lookup_begins(struct context *ctx)
{
	u64 key = ctx->ovs_key;

	if (ovs_lookups.lookup(&key))	/* its return was missed */
		ovs_lookups.delete(&key);
	return 0;
}

static __always_inline void ovs_lookup_of(struct context *ctx)
{
	u64 key = ctx->ovs_key, skb = (u64)ctx->skb;

	if (ovs_lookups.update(&key, &skb))
		count_loss(ctx->probe, LOSS_UNFOLLOWED);
}

/* kretprobe:ovs_flow_tbl_lookup_stats */
static __always_inline int ovs_lookup_returns(struct context *ctx)
{
	u64 key = ctx->ovs_key, *skb = ovs_lookups.lookup(&key);

	if (!skb)
		return 1;
	ctx->skb = (void *)*skb;
	ctx->matched = 1;
	ovs_lookups.delete(&key);
	return 0;
}

static __always_inline int hook_ovs_lookup(struct scratch *s, struct context *ctx)
{
	struct sw_flow *flow = (void *)ctx->ret;
	struct ovs_lookup_raw *e = section(s, SECTION_OVS_LOOKUP, sizeof(*e));

	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	bpf_probe_read_kernel(&e->n_mask_hit, sizeof(u32), (void *)ctx->args->args[OVS_ARG_MASK_HIT]);
#if HAVE_OVS_CACHE_HIT
	bpf_probe_read_kernel(&e->n_cache_hit, sizeof(u32), (void *)ctx->args->args[OVS_ARG_CACHE_HIT]);
#endif
	if (!flow)
		return 0;
	e->flow = (u64)flow;
	e->sf_acts = (u64)READ(flow->sf_acts);
	if (READ(flow->id.ufid_len))	/* otherwise the same place holds a pointer */
		bpf_probe_read_kernel(e->ufid, sizeof(e->ufid), &flow->id.ufid);
	return 0;
}

#if OVS_TRACK
/* User half: what the handler threads of ovs-vswitchd do with the packets sent up to them. A handler receives a batch
 * of upcalls, then makes the operations that come of them, in the order of the upcalls: for each a put, if there is a
 * flow to install, and an execute, if the packet goes on. An execute carries the packet, which tells whose it is; a put
 * does not. */
enum { OVS_BATCH = 64 };		/* ofproto/ofproto-dpif-upcall.c, UPCALL_MAX_BATCH */
#define OVS_BATCH_TIME 1000000000ULL	/* ns: upcalls that came longer ago had no operations */

enum ovs_operation { OVS_EXECUTE, OVS_PUT };

struct ovs_batch {
	u64 leader;			/* when its first upcall was received */
	u64 last;			/* and its last */
	u32 count;
	u32 current;			/* the upcall whose operations are being made */
	u32 operating;			/* all have been received */
	u32 pad;
	struct ovs_received {
		u32 hash;
		u32 queue_id;		/* the same, but for segments */
		u16 skip;		/* nobody waits for it: it did not match the filter */
		u16 done;		/* its operations so far, as bits */
	} upcalls[OVS_BATCH];
};
BPF_TABLE("lru_hash", u32, struct ovs_batch, ovs_batches, OVS_CALLS);	/* by thread */
BPF_ARRAY(ovs_no_batch, struct ovs_batch, 1);

static __always_inline void ovs_read_user(u32 *words, u64 data, u64 size)
{
	OPAQUE(size);
	if (size > OVS_HASHED)
		size = OVS_HASHED;
	bpf_probe_read_user(words, size, (void *)data);
}

static __always_inline struct ovs_batch *ovs_this_batch(struct context *ctx, int begin)
{
	u32 thread = bpf_get_current_pid_tgid(), zero = 0;
	struct ovs_batch *batch = ovs_batches.lookup(&thread), *none;

	if (batch || !begin)
		return batch;
	none = ovs_no_batch.lookup(&zero);
	if (!none)
		return NULL;
	if (ovs_batches.update(&thread, none))
		count_loss(ctx->probe, LOSS_UNFOLLOWED);
	return ovs_batches.lookup(&thread);
}

static __always_inline struct ovs_received *ovs_received(struct ovs_batch *batch, u64 at)
{
	if (at >= OVS_BATCH)
		return NULL;
	asm volatile("%0 &= %1" : "+r"(at) : "i"(OVS_BATCH - 1));	/* for the verifier */
	return &batch->upcalls[at];
}

/* dpif_recv:recv_upcall(name, type, packet, size, key, key size) */
static __always_inline u32 user_hook_ovs_recv(struct user_event *event, struct context *ctx)
{
	struct ovs_batch *batch = ovs_this_batch(ctx, 1);
	u32 words[OVS_WORDS] = {}, hash, queue_id, at;
	struct ovs_received *upcall;
	struct ovs_recv_raw *e;
	int waited_for;

	ovs_read_user(words, ctx->args->args[2], ctx->args->args[3]);
	hash = queue_id = ovs_hash(words);
	waited_for = ovs_was_queued(words, &queue_id);
	if (!batch)
		return 0;
	if (batch->operating || batch->count >= OVS_BATCH || ctx->timestamp - batch->last > OVS_BATCH_TIME)
		batch->count = batch->current = batch->operating = 0;
	if (!batch->count)
		batch->leader = ctx->timestamp;
	at = batch->count;
	upcall = ovs_received(batch, at);
	if (!upcall)
		return 0;
	upcall->hash = hash;
	upcall->queue_id = queue_id;
	upcall->skip = !waited_for;
	upcall->done = 0;
	batch->count = at + 1;
	batch->last = ctx->timestamp;
	if (!waited_for)
		return 0;
	e = user_section(event, SECTION_OVS_RECV);
	e->key_size = ctx->args->args[5];
	e->batch_ts = batch->leader;
	e->pkt_size = ctx->args->args[3];
	e->queue_id = queue_id;
	e->type = ctx->args->args[1];
	e->batch_idx = at;
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
	return sizeof(*e);
}

/* Where in *batch* the upcall with *hash* is, one that was not executed yet if there is a choice; OVS_BATCH: not there */
static __always_inline u32 ovs_find_upcall(struct ovs_batch *batch, u32 hash)
{
	struct ovs_received *upcall;
	u32 at, found = OVS_BATCH;

	for (at = 0; at < OVS_BATCH; at++) {
		upcall = ovs_received(batch, at);
		if (!upcall || at >= batch->count)
			break;
		if (upcall->hash != hash)
			continue;
		found = at;
		if (!(upcall->done & 1 << OVS_EXECUTE))
			break;
	}
	return found;
}

/* *hash* is that of the packet an execute carries. */
static __always_inline u32
ovs_operate(struct user_event *event, struct context *ctx, enum ovs_operation type, u32 hash)
{
	struct ovs_batch *batch = ovs_this_batch(ctx, 0);
	struct ovs_operation_raw *e;
	struct ovs_received *upcall;
	u32 at, found;

	if (!batch || !batch->count)
		return 0;	/* received before the collection began */
	at = batch->operating ? batch->current : 0;
	batch->operating = 1;
	upcall = ovs_received(batch, at);
	if (upcall && upcall->done & (1 << type | 1 << OVS_EXECUTE))
		at++;	/* an execute is the last operation of an upcall */
	if (type == OVS_EXECUTE) {
		found = ovs_find_upcall(batch, hash);
		if (found < OVS_BATCH)
			at = found;
	}
	upcall = ovs_received(batch, at);
	if (!upcall || at >= batch->count)
		return 0;
	batch->current = at;
	upcall->done |= 1 << type;
	if (upcall->skip)
		return 0;
	if (type == OVS_EXECUTE)
		ovs_wait(ctx, hash, OVS_RETURNING, upcall->queue_id, ctx->timestamp);
	e = user_section(event, SECTION_OVS_OPERATION);
	e->batch_ts = batch->leader;
	e->queue_id = upcall->queue_id;
	e->batch_idx = at;
	e->type = type;
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
	return sizeof(*e);
}

/* dpif_netlink_operate__:op_flow_put(dpif, put, flow, request) */
static __always_inline u32 user_hook_ovs_put(struct user_event *event, struct context *ctx)
{
	return ovs_operate(event, ctx, OVS_PUT, 0);
}

/* dpif_netlink_operate__:op_flow_execute(dpif, execute, packet, size, request) */
static __always_inline u32 user_hook_ovs_execute(struct user_event *event, struct context *ctx)
{
	u32 words[OVS_WORDS] = {};

	ovs_read_user(words, ctx->args->args[2], ctx->args->args[3]);
	return ovs_operate(event, ctx, OVS_EXECUTE, ovs_hash(words));
}
#endif
