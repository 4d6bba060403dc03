/* The decision for one sk_buff: does this hit matter?
 *
 * A packet that is tracked matches without looking at it again: once matched, it stays matched through NAT,
 * encapsulation and header removal. Otherwise the packet filter looks at its frame (L2) or, before there is one, at
 * its IP packet (L3). A packet with neither header set never matches.
 */

static __always_inline int packet_matches(struct skb_brief *brief)
{
	u16 mac = BRIEF(brief, mac_header), network = BRIEF(brief, network_header);
	u32 mac_len = BRIEF(brief, mac_len), at, l2;
	s32 linear;
	u64 used;
	struct packet pkt = {};

	if (has_mac(mac, network, mac_len)) {
		at = mac;
		l2 = 1;
	} else if (has_network(mac, network, mac_len)) {
		at = network;
		l2 = 0;
	} else {
		return 0;
	}
#if HAVE_PACKET_FILTER
	/* linear data ends at data + len - data_len; `data` may stand before or behind the header */
	pkt.start = BRIEF(brief, head) + at;
	pkt.len = (u32)(BRIEF(brief, data) - pkt.start) + BRIEF(brief, len);
	linear = pkt.len - BRIEF(brief, data_len);
	pkt.linear = linear < 0 ? 0 : linear;
	used = pkt.linear;
	OPAQUE(used);
	if (used > PACKET_BYTES)
		used = PACKET_BYTES;
	if (bpf_probe_read_kernel(pkt.bytes, used, pkt.start))
		return 0;
	return l2 ? packet_filter_l2(&pkt) : packet_filter_l3(&pkt);
#else
	return 1;
#endif
}
