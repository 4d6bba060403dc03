/* ct: the connection a packet belongs to.  Python side: retis_py/collectors/ct.py */

/* include/linux/skbuff.h: skb->_nfct points to a struct nf_conn, with an enum ip_conntrack_info in its low bits */
#define NFCT_INFOMASK 7UL

#define NFPROTO_IPV4 2		/* include/uapi/linux/netfilter.h */
#define NFPROTO_IPV6 10
#define IPPROTO_ICMP 1		/* include/uapi/linux/in.h, in6.h */
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ICMPV6 58
#define IPPROTO_SCTP 132

/* Is there a form for such a connection in event files? */
static __always_inline int has_form(u16 l3num, u8 protonum)
{
	switch (protonum) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		return l3num == NFPROTO_IPV4 || l3num == NFPROTO_IPV6;
	case IPPROTO_ICMP:
		return l3num == NFPROTO_IPV4;
	case IPPROTO_ICMPV6:
		return l3num == NFPROTO_IPV6;
	}
	return 0;
}

static __always_inline void add_labels(struct ct_raw *e, struct nf_conn *ct)
{
#if HAVE_CT_LABELS
	struct nf_ct_ext *ext = ct->ext;
	u8 at = ext ? READ(ext->offset[NF_CT_EXT_LABELS]) : 0;

	if (at && !bpf_probe_read_kernel(e->labels, sizeof(e->labels), (void *)ext + at))
		return;
#endif
	e->labels[0] = e->labels[1] = 0;
}

/* Adds a section for the connection at `from`, which it copies to s->ct; not 0 if it cannot. */
static __always_inline int
add_connection(struct scratch *s, enum section_id id, struct nf_conn *from, u8 state)
{
	struct nf_conn *ct = &s->ct;
	struct ct_raw *e;
	u8 protonum;

	if (bpf_probe_read_kernel(ct, sizeof(*ct), from))
		return -1;
	protonum = ct->tuplehash[0].tuple.dst.protonum;
	if (!has_form(ct->tuplehash[0].tuple.src.l3num, protonum))
		return -1;
	e = section(s, id, sizeof(*e));
	if (!e)
		return -1;
	__builtin_memcpy(e->orig_src, ct->tuplehash[0].tuple.src.u3, sizeof(e->orig_src));
	__builtin_memcpy(e->orig_dst, ct->tuplehash[0].tuple.dst.u3, sizeof(e->orig_dst));
	__builtin_memcpy(e->reply_src, ct->tuplehash[1].tuple.src.u3, sizeof(e->reply_src));
	__builtin_memcpy(e->reply_dst, ct->tuplehash[1].tuple.dst.u3, sizeof(e->reply_dst));
	e->orig_sport = ntohs(ct->tuplehash[0].tuple.src.u.all);
	e->orig_dport = ntohs(ct->tuplehash[0].tuple.dst.u.all);
	e->reply_sport = ntohs(ct->tuplehash[1].tuple.src.u.all);
	e->reply_dport = ntohs(ct->tuplehash[1].tuple.dst.u.all);
	add_labels(e, ct);
	e->status = ct->status;
	e->orig_vtag = e->reply_vtag = 0;
	e->proto_state = 0;
	if (protonum == IPPROTO_TCP) {
		e->proto_state = ct->proto.tcp.state;
	} else if (protonum == IPPROTO_SCTP) {
		e->proto_state = ct->proto.sctp.state;
		e->orig_vtag = ntohl(ct->proto.sctp.vtag[0]);
		e->reply_vtag = ntohl(ct->proto.sctp.vtag[1]);
	}
#if HAVE_CT_MARK
	e->mark = ct->mark;
#else
	e->mark = 0;
#endif
#if HAVE_CT_ZONE
	e->zone_id = ct->zone.id;
	e->zone_dir = ct->zone.dir;
#else
	e->zone_id = 0;
	e->zone_dir = 0;
#endif
	e->l3num = ct->tuplehash[0].tuple.src.l3num;
	e->protonum = protonum;
	e->state = state;
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
	return 0;
}

static __always_inline void hook_ct(struct scratch *s, struct context *ctx)
{
	struct nf_conn *ct;
	u64 nfct;

	if (!ctx->skb)
		return;
	nfct = s->skb._nfct;
	ct = (void *)(nfct & ~NFCT_INFOMASK);
	/* Of no connection, or untracked: Linux commit cc41c84b7e7f ("netfilter: kill the fake untracked conntrack
	 * objects") (in v4.12) left such a packet without one. */
	if (!ct)
		return;
	if (add_connection(s, SECTION_CT, ct, nfct & NFCT_INFOMASK))
		return;
	ct = s->ct.master;
	if (ct)
		add_connection(s, SECTION_CT_PARENT, ct, 0);
}
