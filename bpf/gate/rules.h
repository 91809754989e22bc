/* Which rules know a source, and what they admit. */
#pragma once

#define SEARCH4_STEPS 17 /* a /16 has at most 65,535 bounds behind its first address */
#define TREE6_LEVELS 7	 /* 9^7-1 keys; the tree of limits.go is smaller */
#define SEARCH6_STEPS 21 /* 2^20 bounds */
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

/* above is 1 if a > b: what would be borrowed for b - a. */
static __always_inline __u64 above(__u64 a, __u64 b)
{
	return ((~b & a) | (~(b ^ a) & (b - a))) >> 63;
}

/* class_in_group searches the bounds that share their upper half with the source. */
static __always_inline int class_in_group(__u32 half, __u32 number, __u64 low)
{
	__u32 at = half * bounds6_half + number, first, count, class;
	struct group6 *group = bpf_map_lookup_elem(&groups6, &at);

	if (!group)
		return 0;
	class = group->before;
	first = group->first;
	count = group->count;
	for (int i = 0; i < SEARCH6_STEPS && count; i++) {
		__u32 step = count >> 1, right;
		struct low6 *bound;

		at = half * bounds6_half + first + step;
		bound = bpf_map_lookup_elem(&lows6, &at);
		if (!bound)
			return 0;
		right = above(bound->low, low) - 1;
		opaque(right);
		class ^= (class ^ bound->class) & right;
		first += (step + 1) & right;
		count = step ^ ((step ^ (count - step - 1)) & right);
	}
	return class;
}

/* class_of6 walks down the tree, one cache line a level, and remembers the last key not above the source. */
__noinline int class_of6(__u32 half, __u64 high, __u64 low)
{
	__u32 nodes = rules[half & 1].nodes6, node = 0, best = 0, at;
	struct node6 *n;
	struct leaf6 *leaf;
	struct sharing6 *shared;

	for (int i = 0; i < TREE6_LEVELS && node < nodes; i++) {
		__u32 not_above = NODE_KEYS;

		at = half * nodes6_half + node;
		n = bpf_map_lookup_elem(&nodes6, &at);
		if (!n)
			return 0;
#pragma unroll
		for (int k = 0; k < NODE_KEYS; k++)
			not_above -= above(n->high[k], high);
		if (not_above)
			best = node * NODE_KEYS + not_above;
		node = node * (NODE_KEYS + 1) + 1 + not_above;
	}
	if (!best)
		return 0;
	best--;
	at = half * nodes6_half + best / NODE_KEYS;
	n = bpf_map_lookup_elem(&nodes6, &at);
	if (n && n->high[best % NODE_KEYS] == high) {
		shared = bpf_map_lookup_elem(&shared6, &at);
		if (shared && shared->group[best % NODE_KEYS])
			return class_in_group(half, shared->group[best % NODE_KEYS] - 1, low);
	}
	leaf = bpf_map_lookup_elem(&leaves6, &at);
	return leaf ? leaf->class[best % NODE_KEYS] : 0;
}

static __always_inline __u32 class_of(int family, __u32 half, __u64 *source)
{
	if (family == 4)
		return class_of4(half, bpf_ntohl(unmapped(source[1])));
	return class_of6(half, bpf_ntohll(source[0]), bpf_ntohll(source[1]));
}

static __always_inline int has_bit(void *map, __u32 half, __u32 bit)
{
	__u32 at = half * KNOWN_WORDS + bit / 64;
	__u64 *word = bpf_map_lookup_elem(map, &at);

	return word && *word >> (bit % 64) & 1;
}

/* may_know is 0 if no rule can know the source: the bit of its block says so. */
static __always_inline int may_know(int family, __u32 half, __u64 *source, struct settings *s)
{
	__u64 high;

	if (family == 4)
		return has_bit(&known4, half, bpf_ntohl(unmapped(source[1])) >> 16);
	high = bpf_ntohll(source[0]) ^ s->known6_base;
	if (high >> 1 >> (63 - (s->known6_bits & 63)))
		return 0;
	return has_bit(&known6, half, high >> (48 - s->known6_bits & 63) & 0xffff);
}

static __always_inline struct target *find_target(__u32 half, __u64 *address, struct settings *s)
{
	__u64 hash = (address[0] * 3 ^ address[1]) * s->target_seed;
	__u32 key = half * targets_half + (__u32)(hash >> (s->target_shift & 63));

	for (int i = 0; i < TARGET_PROBES; i++, key++) {
		struct target *t = bpf_map_lookup_elem(&targets, &key);

		if (!t || !t->slot)
			return 0;
		if (t->be_address[0] == address[0] && t->be_address[1] == address[1])
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

/* A plain packet is as nearly all are: TCP without a tag, an option or extension before it, or fragments. Its
 * flow is filled but for slot and rule. */
struct plain {
	struct flow flow;
	__u32 bytes; /* of the frame */
	__u8 family; /* 0: it isn't plain */
	__u8 opening;
};

/* read_plain leaves whatever is different, or wrong, to judge(). What it reads, it reads as parse.h does. */
static __always_inline void read_plain(struct xdp_md *ctx, struct plain *p)
{
	struct ether *e = bytes_at(ctx, 0, sizeof(*e) + sizeof(struct iphdr) + sizeof(struct tcphdr));
	__u32 end, header;
	struct tcphdr *tcp;
	__u8 family;

	if (!e)
		return;
	if (e->type == bpf_htons(ETHERTYPE_IPV4)) {
		struct iphdr *ip = (void *)(e + 1);

		if (ip->version_words != 0x45 || ip->protocol != NEXT_TCP || ip->fragment & bpf_htons(0x3fff))
			return;
		p->flow.be_source[1] = mapped(ip->source);
		p->flow.be_target[1] = mapped(ip->target);
		tcp = (void *)(ip + 1);
		header = sizeof(*e) + sizeof(*ip);
		end = sizeof(*e) + bpf_ntohs(ip->total);
		family = 4;
	} else if (e->type == bpf_htons(ETHERTYPE_IPV6)) {
		struct ipv6hdr *ip = (void *)(e + 1);

		tcp = (void *)(ip + 1);
		if ((void *)(tcp + 1) > (void *)(long)ctx->data_end)
			return;
		if (ip->version_class >> 4 != 6 || ip->next != NEXT_TCP)
			return;
		__builtin_memcpy(p->flow.be_source, ip->source, sizeof(p->flow.be_source));
		__builtin_memcpy(p->flow.be_target, ip->target, sizeof(p->flow.be_target));
		if (is_mapped(p->flow.be_source) || is_mapped(p->flow.be_target))
			return;
		header = sizeof(*e) + sizeof(*ip);
		end = header + bpf_ntohs(ip->payload);
		family = 6;
	} else {
		return;
	}
	header += (tcp->words >> 4) * 4;
	p->bytes = ctx->data_end - ctx->data;
	if (tcp->words < 0x50 || header > end || (end > p->bytes && end > bpf_xdp_get_buff_len(ctx)))
		return;
	p->flow.ports = (__u32)bpf_ntohs(tcp->source) << 16 | bpf_ntohs(tcp->target);
	p->opening = (tcp->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	p->family = family;
}

/* is_open: on_target says whether the packet is for a mount target. */
static __always_inline int is_open(__u8 protocol, __u16 port, int on_target, struct settings *s)
{
	for (__u32 i = 0; i < OPEN_PORTS && i < s->open_count; i++) {
		struct open_port *o = &s->open[i];

		if (o->protocol == protocol && port >= o->low && port <= o->high && !(on_target && o->host_only))
			return 1;
	}
	return 0;
}

static __always_inline int is_ephemeral(__u16 port, struct settings *s)
{
	return port >= s->ephemeral_low && port <= s->ephemeral_high;
}

/* refused says why a plain packet of no flow is refused, and leaves the slot to count it for; 0 if it may pass:
 * whether it does is for judge() to say. */
static __always_inline int refused(struct plain *p, __u32 half, struct settings *s)
{
	__u16 port = p->flow.ports;
	struct target *t;

	if (is_open(NEXT_TCP, port, 0, s) || (!p->opening && is_ephemeral(port, s)))
		return 0;
	if (may_know(p->family, half, p->flow.be_source, s) && class_of(p->family, half, p->flow.be_source))
		return 0;
	t = find_target(half, p->flow.be_target, s);
	if (!t)
		return DROP_ADDRESS;
	p->flow.slot = t->slot;
	return DROP_SOURCE;
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

	key.class = class_of(p->family, p->half, p->source);
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
