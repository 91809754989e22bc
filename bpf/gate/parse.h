/* From bytes to struct packet. Nothing is read before its bound is checked, and nothing that the IP header
 * calls payload is believed before the frame has it. */
#pragma once

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_QINQ 0x88a8

#define NEXT_HOP_BY_HOP 0
#define NEXT_ICMP 1
#define NEXT_TCP 6
#define NEXT_UDP 17
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_ICMP6 58
#define NEXT_DESTINATION 60

#define MAX_TAGS 2
#define MAX_EXTENSIONS 8
#define MAX_OFFSET 4095 /* no header that is looked at begins behind it */

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Not a verdict: the packet has been read, go on. */
#define CONTINUE -1

struct ether {
	__u8 destination[6];
	__u8 source[6];
	__be16 type;
} __attribute__((packed));

struct vlan {
	__be16 tag;
	__be16 type;
};

struct iphdr {
	__u8 version_words;
	__u8 tos;
	__be16 total;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
	__be32 source;
	__be32 target;
} __attribute__((packed, aligned(2)));

struct ipv6hdr {
	__u8 version_class;
	__u8 flow[3];
	__be16 payload;
	__u8 next;
	__u8 hops;
	__be32 source[4];
	__be32 target[4];
} __attribute__((packed, aligned(2)));

struct extension {
	__u8 next;
	__u8 words; /* of 8 bytes, after the first */
	__u8 type;  /* of a routing header */
	__u8 left;  /* segments left of a routing header */
};

struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be16 id[2];
};

struct tcphdr {
	__be16 source;
	__be16 target;
	__be16 sequence[2];
	__be16 acknowledged[2];
	__u8 words;
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

struct udphdr {
	__be16 source;
	__be16 target;
	__be16 bytes;
	__be16 checksum;
};

struct icmphdr {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 rest[2];
};

enum fragmented { WHOLE = 0, FIRST, LATER };

struct packet {
	__u64 source[2]; /* network order, IPv4 mapped */
	__u64 target[2];
	__be32 id;	 /* of the datagram that this is a fragment of */
	__u32 at;	 /* where the transport header begins */
	__u32 network;	 /* where the IP header begins */
	__u32 payload;	 /* bytes from there on that belong to the datagram */
	__u32 bytes;	 /* of the frame */
	__u32 half;	 /* of the rules that count for this packet */
	__u32 slot;	 /* of the mount target */
	__u32 rule;	 /* that admitted it, plus 1 */
	__u16 offset;	 /* of a later fragment, in bytes */
	__u16 source_port;
	__u16 target_port;
	__u8 family;	 /* 0, 4 or 6 */
	__u8 protocol;
	__u8 fragmented;
	__u8 tcp_flags;
	__u8 hops;
};

/* bytes_at gives n bytes of the packet's linear part, or null. */
static __always_inline void *bytes_at(struct xdp_md *ctx, __u32 offset, __u32 n)
{
	void *p = (void *)(long)ctx->data;

	if (offset > MAX_OFFSET)
		return 0;
	p += offset;
	if (p + n > (void *)(long)ctx->data_end)
		return 0;
	return p;
}

/* frame_has says whether the frame is at least that long, its parts outside the linear one included. */
static __always_inline int frame_has(struct xdp_md *ctx, struct packet *p, __u32 end)
{
	if (end <= p->bytes)
		return 1;
	p->bytes = bpf_xdp_get_buff_len(ctx);
	return end <= p->bytes;
}

/* parse_ether leaves p->network behind the tags and says the type of what begins there, or 0. */
static __always_inline __u16 parse_ether(struct xdp_md *ctx, struct packet *p)
{
	struct ether *e = bytes_at(ctx, 0, sizeof(*e));
	struct vlan *v;
	__u16 type;

	if (!e)
		return 0;
	type = bpf_ntohs(e->type);
	p->network = sizeof(*e);
#pragma unroll
	for (int i = 0; i < MAX_TAGS; i++) {
		if (type != ETHERTYPE_VLAN && type != ETHERTYPE_QINQ)
			return type;
		v = bytes_at(ctx, p->network, sizeof(*v));
		if (!v)
			return 0;
		type = bpf_ntohs(v->type);
		p->network += sizeof(*v);
	}
	return type;
}

/* mapped gives the lower half of ::ffff:a.b.c.d, unmapped a.b.c.d of that, both in network order. */
static __always_inline __u64 mapped(__be32 address)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return (__u64)address << 32 | 0xffff0000;
#else
	return 0xffff00000000 | address;
#endif
}

static __always_inline __be32 unmapped(__u64 low)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return low >> 32;
#else
	return low;
#endif
}

static __always_inline int is_mapped(__u64 *address)
{
	return !address[0] && address[1] == mapped(unmapped(address[1]));
}

static __always_inline int parse_ipv4(struct xdp_md *ctx, struct packet *p)
{
	struct iphdr *ip = bytes_at(ctx, p->network, sizeof(*ip));
	__u32 header, total, fragment;

	p->family = 4;
	if (!ip || ip->version_words >> 4 != 4)
		return DROP_MALFORMED;
	p->source[1] = mapped(ip->source);
	p->target[1] = mapped(ip->target);
	p->protocol = ip->protocol;
	header = (ip->version_words & 15) * 4;
	total = bpf_ntohs(ip->total);
	fragment = bpf_ntohs(ip->fragment);
	p->at = p->network + header;
	p->payload = total - header;
	if (header < sizeof(*ip) || total < header || !frame_has(ctx, p, p->network + total))
		return DROP_MALFORMED;
	if (!(fragment & 0x3fff))
		return CONTINUE;
	p->id = ip->id;
	p->offset = (fragment & 0x1fff) * 8;
	p->fragmented = p->offset ? LATER : FIRST;
	if (p->offset + p->payload > 65535 - header)
		return DROP_MALFORMED;
	return CONTINUE;
}

static __always_inline int parse_fragment_header(struct xdp_md *ctx, struct packet *p)
{
	struct fragment_header *f = bytes_at(ctx, p->at, sizeof(*f));
	__u32 offset;

	if (!f || p->payload < sizeof(*f))
		return DROP_MALFORMED;
	offset = bpf_ntohs(f->offset);
	p->at += sizeof(*f);
	p->payload -= sizeof(*f);
	p->protocol = f->next;
	__builtin_memcpy(&p->id, f->id, sizeof(p->id));
	p->offset = offset & 0xfff8;
	if (p->offset)
		p->fragmented = LATER;
	else if (offset & 1)
		p->fragmented = FIRST;
	if (p->offset + p->payload > 65535)
		return DROP_MALFORMED;
	return CONTINUE;
}

/* parse_extension steps over one header that begins at p->at and is p->protocol. */
static __always_inline int parse_extension(struct xdp_md *ctx, struct packet *p)
{
	struct extension *e = bytes_at(ctx, p->at, sizeof(*e));
	__u32 bytes;

	if (!e)
		return DROP_MALFORMED;
	bytes = (e->words + 1) * 8;
	if (bytes > p->payload)
		return DROP_MALFORMED;
	if (p->protocol == NEXT_ROUTING && e->left)
		return DROP_HEADERS;
	p->protocol = e->next;
	p->at += bytes;
	p->payload -= bytes;
	return CONTINUE;
}

static __always_inline int is_extension(__u8 protocol)
{
	return protocol == NEXT_HOP_BY_HOP || protocol == NEXT_ROUTING || protocol == NEXT_FRAGMENT ||
	       protocol == NEXT_DESTINATION;
}

/* parse_extensions ends at a transport header, at a later fragment's payload, or with a verdict. */
static __always_inline int parse_extensions(struct xdp_md *ctx, struct packet *p)
{
	int seen_fragment = 0, verdict;

	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		if (!is_extension(p->protocol))
			return CONTINUE;
		if ((p->protocol == NEXT_HOP_BY_HOP && i) || (p->protocol == NEXT_FRAGMENT && seen_fragment))
			return DROP_HEADERS;
		if (p->protocol == NEXT_FRAGMENT) {
			seen_fragment = 1;
			verdict = parse_fragment_header(ctx, p);
		} else {
			verdict = parse_extension(ctx, p);
		}
		if (verdict != CONTINUE)
			return verdict;
		if (p->fragmented == LATER)
			return CONTINUE;
	}
	return is_extension(p->protocol) ? DROP_HEADERS : CONTINUE;
}

static __always_inline int parse_ipv6(struct xdp_md *ctx, struct packet *p)
{
	struct ipv6hdr *ip = bytes_at(ctx, p->network, sizeof(*ip));

	p->family = 6;
	if (!ip || ip->version_class >> 4 != 6)
		return DROP_MALFORMED;
	__builtin_memcpy(p->source, ip->source, sizeof(p->source));
	__builtin_memcpy(p->target, ip->target, sizeof(p->target));
	/* In our maps these are IPv4's, and on a wire nobody's. */
	if (is_mapped(p->source) || is_mapped(p->target))
		return DROP_MALFORMED;
	p->protocol = ip->next;
	p->hops = ip->hops;
	p->payload = bpf_ntohs(ip->payload);
	p->at = p->network + sizeof(*ip);
	if (!p->payload || !frame_has(ctx, p, p->at + p->payload))
		return DROP_MALFORMED;
	if (p->protocol == NEXT_TCP)
		return CONTINUE;
	return parse_extensions(ctx, p);
}

static __always_inline int parse_tcp(struct xdp_md *ctx, struct packet *p)
{
	struct tcphdr *tcp = bytes_at(ctx, p->at, sizeof(*tcp));
	__u32 header;

	if (!tcp || p->payload < sizeof(*tcp))
		return DROP_MALFORMED;
	header = (tcp->words >> 4) * 4;
	if (header < sizeof(*tcp) || header > p->payload)
		return DROP_MALFORMED;
	p->source_port = bpf_ntohs(tcp->source);
	p->target_port = bpf_ntohs(tcp->target);
	p->tcp_flags = tcp->flags;
	return CONTINUE;
}

static __always_inline int parse_udp(struct xdp_md *ctx, struct packet *p)
{
	struct udphdr *udp = bytes_at(ctx, p->at, sizeof(*udp));
	__u32 bytes;

	if (!udp || p->payload < sizeof(*udp))
		return DROP_MALFORMED;
	bytes = bpf_ntohs(udp->bytes);
	if (bytes < sizeof(*udp) || (p->fragmented == WHOLE && bytes > p->payload))
		return DROP_MALFORMED;
	p->source_port = bpf_ntohs(udp->source);
	p->target_port = bpf_ntohs(udp->target);
	return CONTINUE;
}
