/* nft: verdicts of nftables rules.  Python side: retis_py/collectors/nft.py */

/* include/uapi/linux/netfilter/nf_tables.h: enum nft_verdicts, enum nft_trace_types */
enum { NFT_GOTO = -4, NFT_JUMP = -3, NFT_CONTINUE = -1 };
enum { NFT_TRACETYPE_POLICY = 1, NFT_TRACETYPE_RETURN = 2 };

#define NF_VERDICT_MASK 0xff	/* include/uapi/linux/netfilter.h: above it are errors and queue numbers */

/* Linux commit 2c865a8a28a1 ("netfilter: nf_tables: add rule blob layout") (in v5.17) */
#if HAVE_NFT_RULE_DP
#define NFT_RULE nft_rule_dp
#else
#define NFT_RULE nft_rule
#endif

/* Rules looked at, at most, to find the end of their chain. */
enum { NFT_STEPS = 512 };

/* Linux commits 698bb828a6c2, 0a202145d5f9 and 46df417544f4 ("netfilter: nf_tables: do not store pktinfo [verdict, rule]
 * in traceinfo structure") (in v6.4) made arguments of them. */
static __always_inline struct nft_pktinfo *nft_packet(struct context *ctx)
{
#if HAVE_NFT_INFO_PKT
	return (void *)READ(((struct nft_traceinfo *)ctx->nft_info)->pkt);
#else
	return (void *)ctx->nft_pkt;
#endif
}

static __always_inline int nft_context(struct context *ctx)
{
	ctx->skb = READ(nft_packet(ctx)->skb);
	return !ctx->skb;
}

/* Rules of a generation of a chain lie one after another in a blob. */
static __always_inline int nft_in_blob(struct nft_rule_blob *blob, u64 rule)
{
	u64 start = (u64)blob + __builtin_offsetof(struct nft_rule_blob, data);

	return blob && rule >= start && rule - start <= READ(blob->size);
}

/* The chain of a rule. Linux commit e38fbfa972eb ("netfilter: nf_tables: merge nft_rules_old structure and end of
 * ruleblob marker") and those after it (in v6.4) took the chain from the arguments and put it at the end of each blob:
 * NULL if that is too far away. A base chain's blobs are known without a walk. */
static __always_inline struct nft_chain *
nft_chain_of(struct context *ctx, struct nft_base_chain *base, u64 rule)
{
	struct nft_chain *chain = (void *)ctx->nft_chain;
#if HAVE_NFT_RULE_LAST
	struct nft_rule_dp dp;
	int i;

	if (chain)
		return chain;
	chain = (void *)base + __builtin_offsetof(struct nft_base_chain, chain);
	if (!rule || nft_in_blob(READ(chain->blob_gen_0), rule) || nft_in_blob(READ(chain->blob_gen_1), rule))
		return chain;
#pragma clang loop unroll(disable)
	for (i = 0; i < NFT_STEPS; i++) {
		/* a failed read gives 0 */
		bpf_probe_read_kernel(&dp, sizeof(dp), (void *)rule);
		if (dp.is_last)
			break;
		rule += sizeof(dp) + dp.dlen;
	}
	chain = dp.is_last ? (void *)READ(((struct nft_rule_dp_last *)rule)->chain) : NULL;
#endif
	return chain;
}

static __always_inline void nft_verdict_chain(struct scratch *s, struct nft_verdict *verdict)
{
	struct nft_chain *chain = READ(verdict->chain);
	struct nft_verdict_chain_raw *e = section(s, SECTION_NFT_VERDICT_CHAIN, sizeof(*e));

	if (!e)
		return;
	__builtin_memset(e->name, 0, sizeof(e->name));
	bpf_probe_read_kernel_str(e->name, sizeof(e->name), READ(chain->name));
}

static __always_inline u64 nft_net(struct context *ctx)
{
	struct nf_hook_state *state = (void *)READ(nft_packet(ctx)->state);
	struct net *net = READ(state->net);

	ctx->net = net;		/* for a packet that is on no device yet */
#if HAVE_NET_COOKIE
	return READ(net->net_cookie);
#else
	return READ(net->ns.inum);
#endif
}

static __always_inline int hook_nft(struct scratch *s, struct context *ctx)
{
	struct nft_traceinfo *info = (void *)ctx->nft_info;
	struct nft_base_chain *base = (void *)READ(info->basechain);
	struct nft_verdict *verdict = (void *)ctx->nft_verdict;
	u64 rule = ctx->nft_rule;
	u32 type = ctx->nft_type, selected;
	struct nft_chain *chain, *any;
	struct nft_table *table;
	struct NFT_RULE dp;
	struct nft_raw *e;
	s32 code;

#if HAVE_NFT_INFO_VERDICT
	verdict = (void *)READ(info->verdict);
#endif
#if HAVE_NFT_INFO_RULE
	rule = (u64)READ(info->rule);
#endif
	code = type == NFT_TRACETYPE_POLICY ? READ(base->policy) : (s32)READ(verdict->code);
	if (code >= 0)
		code &= NF_VERDICT_MASK;
	selected = code + 5;	/* bit of --nft-verdicts */
	if (selected > 9 || !(NFT_VERDICTS >> selected & 1))
		return -1;
	e = section(s, SECTION_NFT, sizeof(*e));
	if (!e)
		return 0;
	e->net = nft_net(ctx);
	e->verdict = code;
	e->policy = type == NFT_TRACETYPE_POLICY;
	__builtin_memset(e->_pad, 0, sizeof(e->_pad));
	e->rule_handle = -1;
	/* at the end of a chain there is a marker in place of a rule */
	if (rule && !(type == NFT_TRACETYPE_RETURN && code == NFT_CONTINUE) &&
	    !bpf_probe_read_kernel(&dp, sizeof(dp), (void *)rule)
#if HAVE_NFT_RULE_DP
	    && !dp.is_last
#endif
	)
		e->rule_handle = dp.handle;
	chain = nft_chain_of(ctx, base, rule);
	any = chain ? chain : (void *)base + __builtin_offsetof(struct nft_base_chain, chain);
	table = READ(any->table);
	e->table_handle = READ(table->handle);
	e->chain_handle = chain ? READ(chain->handle) : -1;
	__builtin_memset(e->table, 0, sizeof(e->table));
	__builtin_memset(e->chain, 0, sizeof(e->chain));
	bpf_probe_read_kernel_str(e->table, sizeof(e->table), READ(table->name));
	if (chain)
		bpf_probe_read_kernel_str(e->chain, sizeof(e->chain), READ(chain->name));
	if (code == NFT_JUMP || code == NFT_GOTO)
		nft_verdict_chain(s, verdict);
	return 0;
}
