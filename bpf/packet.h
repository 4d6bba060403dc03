/* What a packet filter sees of a packet. The filter itself is generated (retis_py/filters/packet.py): the classic BPF
 * that libpcap makes of the expression, as C with forward gotos. */

struct packet {
	u8 bytes[PACKET_BYTES];	/* from the header on, as far as the filter's constant offsets reach */
	unsigned char *start;	/* in the kernel */
	u32 linear;		/* bytes from `start` to the end of the linear data */
	u32 len;		/* bytes from `start` on, paged data included: `len` of the expression */
} __attribute__((aligned(8)));

/* A load of the filter at a constant offset, and at one computed from the packet; big endian, as BPF_LD is. */
#define LOAD8(at) (pkt->bytes[at])
#define LOAD16(at) ((u32)pkt->bytes[at] << 8 | pkt->bytes[(at) + 1])
#define LOAD32(at)                                                             \
	((u32)pkt->bytes[at] << 24 | (u32)pkt->bytes[(at) + 1] << 16 |         \
	 (u32)pkt->bytes[(at) + 2] << 8 | pkt->bytes[(at) + 3])

static __always_inline int load_bytes(struct packet *pkt, u32 at, void *to, u32 size)
{
	if (at > pkt->linear || size > pkt->linear - at)
		return -1;
	return bpf_probe_read_kernel(to, size, pkt->start + at);
}
