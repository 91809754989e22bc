/* Which rules know a source, and what they admit. */
#pragma once

#define SEARCH4_STEPS 17 /* a /16 has at most 65,535 bounds behind its first address */
#define TREE6_LEVELS 9	 /* 5^9-1 bounds; the tree of limits.go is smaller */
#define MAX_RANGES 64	 /* of one pair; limits.go says so too */

/* opaque keeps the compiler from making a branch of arithmetic: the branches of a search are those that a
 * processor predicts worst, and the verifier would follow each of their combinations. */
#define opaque(x) asm volatile("" : "+r"(x))

/* class_of4 finds the set of rules that know this source, 0 for none: one cache line for most sources that
 * nobody knows, two for most others. A function of its own for the verifier, which then reads it once. */
__noinline int class_of4(__u32 half, __u32 source)
{
	__u32 key = half << 16 | source >> 16;
	struct span4 *span = bpf_map_lookup_elem(&spans4, &key);
	__u32 low = source & 0xffff, first, count, class;

	if (!span)
		return 0;
	class = span->class;
	first = span->first;
	count = span->count;
	for (int i = 0; i < SEARCH4_STEPS && count; i++) {
		__u32 step = count >> 1, middle = first + step, right;
		__u32 at = half * lines4_half + middle / LINE_BOUNDS;
		struct line4 *line = bpf_map_lookup_elem(&bounds4, &at);
		struct bound4 *bound;

		if (!line)
			return 0;
		bound = &line->bounds[middle % LINE_BOUNDS];
		right = ((low - bound->low) >> 31) - 1; /* all ones, if the bound is not above */
		opaque(right);
		class ^= (class ^ bound->class) & right;
		first += (step + 1) & right;
		count = step ^ ((step ^ (count - step - 1)) & right);
	}
	return class;
}

/* borrow is 1 if a - b - bit is below 0. */
static __always_inline __u64 borrow(__u64 a, __u64 b, __u64 bit)
{
	return ((~a & b) | (~(a ^ b) & (a - b - bit))) >> 63;
}

/* class_of6 walks down the tree, one cache line a level, and remembers the last bound not above the source. */
__noinline int class_of6(__u32 half, __u64 high, __u64 low)
{
	__u32 node = 0, best = 0, at;
	struct tree6 *tree = bpf_map_lookup_elem(&trees6, &half);
	struct node_classes6 *classes;

	if (!tree)
		return 0;
	for (int i = 0; i < TREE6_LEVELS && node < tree->nodes; i++) {
		struct node6 *n;
		__u32 below = NODE_KEYS;

		at = half * nodes6_half + node;
		n = bpf_map_lookup_elem(&nodes6, &at);
		if (!n)
			return 0;
#pragma unroll
		for (int k = 0; k < NODE_KEYS; k++)
			below -= borrow(high, n->high[k], borrow(low, n->low[k], 0));
		if (below)
			best = node * NODE_KEYS + below;
		node = node * (NODE_KEYS + 1) + 1 + below;
	}
	if (!best)
		return 0;
	best--;
	at = half * nodes6_half + best / NODE_KEYS;
	classes = bpf_map_lookup_elem(&classes6, &at);
	return classes ? classes->class[best % NODE_KEYS] : 0;
}

static __always_inline __u32 class_of(struct packet *p)
{
	if (p->family == 4)
		return class_of4(p->half, bpf_ntohl(unmapped(p->source[1])));
	return class_of6(p->half, bpf_ntohll(p->source[0]), bpf_ntohll(p->source[1]));
}

static __always_inline struct target *find_target(struct packet *p, struct settings *s)
{
	__u64 hash = (p->target[0] * 3 ^ p->target[1]) * s->target_seed;
	__u32 key = p->half * targets_half + (__u32)(hash >> (s->target_shift & 63));

	for (int i = 0; i < TARGET_PROBES; i++, key++) {
		struct target *t = bpf_map_lookup_elem(&targets, &key);

		if (!t || !t->slot)
			return 0;
		if (t->be_address[0] == p->target[0] && t->be_address[1] == p->target[1])
			return t;
	}
	return 0;
}

static __always_inline __u32 ports_of(struct packet *p)
{
	return (__u32)p->source_port << 16 | p->target_port;
}

/* flow_at gives the place that a connection's flow has, whether or not it is there. */
static __always_inline struct flow *flow_at(struct flow *f)
{
	__u64 hash = (f->be_source[0] * 3 ^ f->be_source[1] ^ f->be_target[0] ^ f->be_target[1] * 5) + f->ports;
	__u32 key = bpf_get_smp_processor_id();

	if (key >= flow_cpus)
		return 0;
	hash *= 0x9e3779b97f4a7c15; /* 2^64 by the golden ratio */
	key = key * FLOWS + (hash >> 52);
	return bpf_map_lookup_elem(&flows, &key);
}

static __always_inline int same_flow(struct flow *a, struct flow *b)
{
	return ((a->be_source[1] ^ b->be_source[1]) | (a->be_target[1] ^ b->be_target[1]) | (a->ports ^ b->ports) |
		(a->epoch ^ b->epoch) | (a->be_source[0] ^ b->be_source[0]) | (a->be_target[0] ^ b->be_target[0])) == 0;
}

static __always_inline void keep_flow(struct packet *p, struct settings *s)
{
	struct flow new = {
		.be_source = { p->source[0], p->source[1] },
		.be_target = { p->target[0], p->target[1] },
		.ports = ports_of(p),
		.epoch = s->epoch,
		.slot = p->slot,
		.rule = p->rule,
	};
	struct flow *f = flow_at(&new);

	if (f)
		*f = new;
}

/* known finds the flow of a packet as nearly all are: no tag, no option or extension before TCP, no fragment,
 * not a connection's first. Whatever is different or not there is left to judge(), which is to come to the
 * same verdict about what is known here. */
static __always_inline struct flow *known(struct xdp_md *ctx, struct settings *s)
{
	struct ether *e = bytes_at(ctx, 0, sizeof(*e) + sizeof(struct iphdr) + sizeof(struct tcphdr));
	__u32 frame = ctx->data_end - ctx->data, end, header;
	struct flow wanted = { .epoch = s->epoch }, *f;
	struct tcphdr *tcp;

	if (!e)
		return 0;
	if (e->type == bpf_htons(ETHERTYPE_IPV4)) {
		struct iphdr *ip = (void *)(e + 1);

		if (ip->version_words != 0x45 || ip->protocol != NEXT_TCP || ip->fragment & bpf_htons(0x3fff))
			return 0;
		wanted.be_source[1] = mapped(ip->source);
		wanted.be_target[1] = mapped(ip->target);
		end = sizeof(*e) + bpf_ntohs(ip->total);
		tcp = (void *)(ip + 1);
		header = sizeof(*e) + sizeof(*ip);
	} else if (e->type == bpf_htons(ETHERTYPE_IPV6)) {
		struct ipv6hdr *ip = (void *)(e + 1);

		tcp = (void *)(ip + 1);
		if ((void *)(tcp + 1) > (void *)(long)ctx->data_end)
			return 0;
		if (ip->version_class >> 4 != 6 || ip->next != NEXT_TCP)
			return 0;
		__builtin_memcpy(wanted.be_source, ip->source, sizeof(wanted.be_source));
		__builtin_memcpy(wanted.be_target, ip->target, sizeof(wanted.be_target));
		header = sizeof(*e) + sizeof(*ip);
		end = header + bpf_ntohs(ip->payload);
	} else {
		return 0;
	}
	header += (tcp->words >> 4) * 4;
	if (tcp->words < 0x50 || header > end || (tcp->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return 0;
	if (end > frame && end > bpf_xdp_get_buff_len(ctx))
		return 0;
	wanted.ports = (__u32)bpf_ntohs(tcp->source) << 16 | bpf_ntohs(tcp->target);
	f = flow_at(&wanted);
	return f && same_flow(f, &wanted) ? f : 0;
}

static __always_inline int in_range(struct packet *p, struct range *r)
{
	if (p->target_port < r->low || p->target_port > r->high)
		return 0;
	p->rule = r->rule + 1;
	return 1;
}

/* by_rules says whether the target's security groups admit this source to this port. */
static __always_inline int by_rules(struct packet *p, struct target *t)
{
	struct pair_key key = { .half_policy = p->half << 31 | t->policy };
	struct pair *pair;
	__u32 i;

	key.class = class_of(p);
	if (!key.class)
		return DROP_SOURCE;
	pair = bpf_map_lookup_elem(&pairs, &key);
	if (!pair)
		return DROP_SOURCE;
	if (in_range(p, &pair->range))
		return PASS_RULE;
	for (i = 0; i < MAX_RANGES && i < pair->count; i++) {
		__u32 at = p->half * ranges_half + pair->more + i;
		struct range *r = bpf_map_lookup_elem(&ranges, &at);

		if (!r)
			break;
		if (in_range(p, r))
			return PASS_RULE;
	}
	return DROP_PORT;
}

static __always_inline int is_open(struct packet *p, struct settings *s)
{
	for (__u32 i = 0; i < OPEN_PORTS && i < s->open_count; i++) {
		struct open_port *o = &s->open[i];

		if (o->protocol == p->protocol && p->target_port >= o->low && p->target_port <= o->high)
			return 1;
	}
	return 0;
}
