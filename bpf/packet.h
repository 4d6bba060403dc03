/* What a packet filter sees of a packet. The filter itself is generated (retis_py/filters/packet.py): the classic BPF
 * that libpcap makes of the expression, as C with forward gotos. */

struct packet {
#if !DIRECT_READS
	u8 bytes[PACKET_BYTES];	/* from the header on, as far as the filter's constant offsets reach */
#endif
	unsigned char *start;	/* in the kernel */
	u32 linear;		/* bytes from `start` to the end of the linear data */
	u32 len;		/* bytes from `start` on, paged data included: `len` of the expression */
} __attribute__((aligned(8)));

/* A load of the filter at a constant offset, which it has compared with `linear` before; big endian, as BPF_LD is. Where a
 * read is a call of a helper, one copy of the header serves all of them. The copy may go beyond the linear data: struct
 * skb_shared_info, which is longer, stands there. */
#if DIRECT_READS
#define LOAD8(at) READ(*(u8 *)(pkt->start + (at)))
#define LOAD16(at) ntohs(READ(*(u16 *)(pkt->start + (at))))
#define LOAD32(at) ntohl(READ(*(u32 *)(pkt->start + (at))))
#else
#define LOAD8(at) (pkt->bytes[at])
#define LOAD16(at) ((u32)pkt->bytes[at] << 8 | pkt->bytes[(at) + 1])
#define LOAD32(at)                                                             \
	((u32)pkt->bytes[at] << 24 | (u32)pkt->bytes[(at) + 1] << 16 |         \
	 (u32)pkt->bytes[(at) + 2] << 8 | pkt->bytes[(at) + 3])
#endif

/* A load at an offset computed from the packet. */
static __always_inline int load_bytes(struct packet *pkt, u32 at, void *to, u32 size)
{
	if (at > pkt->linear || size > pkt->linear - at)
		return -1;
	return read_number(to, size, pkt->start + at);
}
