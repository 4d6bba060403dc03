/* The decision for one sk_buff: does this hit matter?
 *
 * A packet that is tracked matches without looking at it again: once matched, it stays matched through NAT,
 * encapsulation and header removal. Otherwise the packet filter looks at its frame (L2) or, before there is one, at
 * its IP packet (L3). A packet with neither header set never matches.
 */

static __always_inline int packet_matches(struct skb_brief *brief, unsigned char *head)
{
	u16 mac = BRIEF(brief, mac_header), network = BRIEF(brief, network_header);
	/* only matters, so is only read, where both headers are said to be at one place */
	u32 mac_len = mac == network ? READ(brief->skb->mac_len) : 0;
	u32 at, l2, end;
	struct packet pkt;

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
	end = (u64)BRIEF(brief, tail);
	pkt.start = head + at;
	pkt.linear = end > at ? end - at : 0;
#if PACKET_LEN
	/* `data` may stand before or behind the header */
	pkt.len = (u32)(READ(brief->skb->data) - pkt.start) + READ(brief->skb->len);
#endif
#if !DIRECT_READS
	if (bpf_probe_read_kernel(pkt.bytes, sizeof(pkt.bytes), pkt.start))
		return 0;
#endif
	return l2 ? packet_filter_l2(&pkt) : packet_filter_l3(&pkt);
#else
	return 1;
#endif
}
