/* skb: the packet, and the state of its socket buffer.  Python side: retis_py/collectors/skb.py */

/* Longest frame captured: linear data only. */
enum { CAPTURE_MAX = 255 };

#define ETH_P_IP 0x0800		/* include/uapi/linux/if_ether.h */
#define ETH_P_IPV6 0x86DD

/* Ethertype of a packet that has no link-layer header yet, in network order; 0 if nothing tells. */
static __always_inline u16 ethertype(struct sk_buff *skb, unsigned char *network)
{
	u16 length = skb->transport_header - skb->network_header;
	u8 version;

	if (skb->protocol)
		return skb->protocol;
	if (!has_transport(skb->transport_header, skb->network_header))
		return 0;
	version = READ(*network) >> 4;
	if (version == 4 && length == 20)	/* sizeof(struct iphdr) */
		return ntohs(ETH_P_IP);
	if (version == 6 && length == 40)	/* sizeof(struct ipv6hdr) */
		return ntohs(ETH_P_IPV6);
	return 0;
}

static __always_inline void hook_skb_packet(struct scratch *s, struct context *ctx)
{
	struct sk_buff *skb = &s->skb;
	u16 mac = skb->mac_header, network = skb->network_header, type;
	s32 linear = skb->len - skb->data_len, offset, room;
	u32 at = s->size + sizeof(struct packet_raw), made_up = 0;
	unsigned char *from;
	struct packet_raw *e;
	u8 *to;

	if (!ctx->skb || linear <= 0)
		return;
	if (has_mac(mac, network, skb->mac_len)) {
		from = skb->head + mac;
	} else if (has_network(mac, network, skb->mac_len)) {
		from = skb->head + network;
		type = ethertype(skb, from);
		if (!type)
			return;
		made_up = ETH_HLEN;
	} else {
		return;
	}
	offset = (u64)from - (u64)skb->data;	/* negative once data was pulled past the header */
	room = linear - offset;
	if (room <= 0)
		return;
	if (room > CAPTURE_MAX - (s32)made_up)
		room = CAPTURE_MAX - made_up;
	e = section(s, SECTION_SKB_PACKET, sizeof(*e));
	if (!e || at > sizeof(s->event.data) - TAIL_MAX)
		return;
	e->len = skb->len - offset + made_up;
	e->capture_len = room + made_up;
	to = s->event.data + at;
	if (made_up) {
		__builtin_memset(to, 0, 12);	/* no addresses */
		to[12] = type;
		to[13] = type >> 8;
		to += ETH_HLEN;
	}
	if (bpf_probe_read_kernel(to, room & CAPTURE_MAX, from))
		e->capture_len = made_up = 0;
	s->tail = e->capture_len;
}

static __always_inline void hook_skb_vlan(struct scratch *s, struct context *ctx)
{
	struct sk_buff *skb = &s->skb;
	u16 tci = skb->vlan_tci;
	struct vlan_raw *e;

#if HAVE_VLAN_PRESENT
	if (!skb->vlan_present)
		return;
#else
	if (!skb->vlan_all)
		return;
#endif
	e = section(s, SECTION_SKB_VLAN, sizeof(*e));
	if (!e)
		return;
	e->proto = ntohs(skb->vlan_proto);
	e->pcp = tci >> 13;
	e->dei = tci >> 12 & 1;
	e->vid = tci & 0xfff;
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
}

#if SKB_META
static __always_inline void hook_skb_meta(struct scratch *s, struct context *ctx)
{
	struct meta_raw *e = section(s, SECTION_SKB_META, sizeof(*e));
	struct sk_buff *skb = &s->skb;

	if (!e)
		return;
	e->len = skb->len;
	e->data_len = skb->data_len;
	e->hash = skb->hash;
	e->csum = skb->csum;
	e->priority = skb->priority;
	e->ip_summed = skb->ip_summed;
	e->csum_level = skb->csum_level;
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
}
#endif

#if SKB_DATA_REF || SKB_GSO
static __always_inline struct skb_shared_info *shared_info(struct sk_buff *skb)
{
	return (void *)(skb->head + skb->end);	/* sk_buff_data_t is an offset on 64 bits */
}
#endif

#if SKB_DATA_REF
static __always_inline void hook_skb_data_ref(struct scratch *s, struct context *ctx)
{
	struct data_ref_raw *e = section(s, SECTION_SKB_DATA_REF, sizeof(*e));
	struct sk_buff *skb = &s->skb;

	if (!e)
		return;
	e->nohdr = skb->nohdr;
	e->cloned = skb->cloned;
	e->fclone = skb->fclone;
	e->users = skb->users.refs.counter;
	e->dataref = READ(shared_info(skb)->dataref.counter);
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
}
#endif

#if SKB_GSO
static __always_inline void hook_skb_gso(struct scratch *s, struct context *ctx)
{
	struct skb_shared_info *info = shared_info(&s->skb);
	u16 size = READ(info->gso_size);
	struct gso_raw *e;

	if (!size)
		return;
	e = section(s, SECTION_SKB_GSO, sizeof(*e));
	if (!e)
		return;
	e->size = size;
	e->segs = READ(info->gso_segs);
	e->type = READ(info->gso_type);
#if HAVE_GSO_FLAGS
	e->flags = READ(info->flags);
#else
	e->flags = 0;
#endif
	e->nr_frags = READ(info->nr_frags);
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
}
#endif

static __always_inline void hook_skb(struct scratch *s, struct context *ctx)
{
	if (!ctx->skb)
		return;
	hook_skb_vlan(s, ctx);
#if SKB_META
	hook_skb_meta(s, ctx);
#endif
#if SKB_DATA_REF
	hook_skb_data_ref(s, ctx);
#endif
#if SKB_GSO
	hook_skb_gso(s, ctx);
#endif
}
