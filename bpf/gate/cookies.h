/* SYN cookies: above a rate, connections are answered here, with a sequence number that the kernel knows again
 * (net.ipv4.tcp_syncookies=2), and cost it nothing until their ACK comes. */
#pragma once

#define COOKIE_WINDOW 65535
#define TCP_MOST 60 /* bytes of a TCP header with options */
#define SECOND_SHIFT 30 /* 2^30 ns is a second, nearly */

/* An answer's TCP header: with the option that says how large our segments may be. */
struct answer {
	struct tcphdr tcp;
	__u8 kind;
	__u8 length;
	__be16 mss;
};

/* in_flood counts a SYN that would be let in, and says whether there are too many of them on this CPU. */
static __always_inline int in_flood(struct settings *s)
{
	__u32 zero = 0;
	struct pace *pace = bpf_map_lookup_elem(&paces, &zero);
	__u64 second;

	if (!s->cookie_above || !pace)
		return 0;
	second = bpf_ktime_get_coarse_ns() >> SECOND_SHIFT;
	if (pace->second != second) {
		pace->second = second;
		pace->syns = 0;
	}
	return ++pace->syns > s->cookie_above;
}

/* copy_tcp copies a header with its options, of words*4 bytes. */
static __always_inline int copy_tcp(struct xdp_md *ctx, struct packet *p, __u32 *to, __u32 words)
{
	__u32 *from;

	for (__u32 i = 0; i < TCP_MOST / 4 && i < words; i++) {
		from = bytes_at(ctx, p->at + i * 4, 4);
		if (!from)
			return 0;
		to[i] = *from;
	}
	return 1;
}

/* cookie_for gives the sequence number for an answer, or less than 0. */
static __always_inline __s64 cookie_for(struct xdp_md *ctx, struct packet *p, __be16 *sequence)
{
	__u32 tcp[TCP_MOST / 4] = {};
	struct tcphdr *header = (struct tcphdr *)tcp;
	struct iphdr *ip4 = bytes_at(ctx, p->network, sizeof(*ip4));
	struct ipv6hdr *ip6 = bytes_at(ctx, p->network, sizeof(*ip6));
	__u64 bytes;

	if (!ip4 || !copy_tcp(ctx, p, tcp, 5) || !copy_tcp(ctx, p, tcp, header->words >> 4))
		return -1;
	sequence[0] = header->sequence[0];
	sequence[1] = header->sequence[1];
	bytes = (header->words >> 4) * 4;
	opaque(bytes); /* so that the check stays here, where the verifier of 6.1 sees it */
	if (bytes < sizeof(*header) || bytes > TCP_MOST)
		return -1;
	if (p->family == 4)
		return bpf_tcp_raw_gen_syncookie_ipv4(ip4, header, bytes);
	return ip6 ? bpf_tcp_raw_gen_syncookie_ipv6(ip6, header, bytes) : -1;
}

/* sum adds up n words of 16 bits. */
static __always_inline __u32 sum(__u16 *words, int n)
{
	__u32 total = 0;

#pragma unroll
	for (int i = 0; i < n; i++)
		total += words[i];
	return total;
}

static __always_inline __u32 sum_addresses(struct packet *p)
{
	if (p->family == 4)
		return sum((__u16 *)p->source + 6, 2) + sum((__u16 *)p->target + 6, 2);
	return sum((__u16 *)p->source, 8) + sum((__u16 *)p->target, 8);
}

static __always_inline __u16 folded(__u32 total)
{
	total = (total & 0xffff) + (total >> 16);
	total = (total & 0xffff) + (total >> 16);
	return ~total;
}

static __always_inline void fill_answer(struct packet *p, struct answer *a, __u32 cookie, __be16 *sequence,
					struct settings *s)
{
	__u32 next = ((__u32)bpf_ntohs(sequence[0]) << 16 | bpf_ntohs(sequence[1])) + 1, total;

	a->tcp.source = bpf_htons(p->target_port);
	a->tcp.target = bpf_htons(p->source_port);
	a->tcp.sequence[0] = bpf_htons(cookie >> 16);
	a->tcp.sequence[1] = bpf_htons(cookie);
	a->tcp.acknowledged[0] = bpf_htons(next >> 16);
	a->tcp.acknowledged[1] = bpf_htons(next);
	a->tcp.words = sizeof(*a) / 4 << 4;
	a->tcp.flags = TCP_SYN | TCP_ACK;
	a->tcp.window = bpf_htons(COOKIE_WINDOW);
	a->kind = 2;
	a->length = 4;
	a->mss = bpf_htons(p->family == 4 ? s->cookie_mss4 : s->cookie_mss6);
	total = sum((__u16 *)a, sizeof(*a) / 2) + bpf_htons(NEXT_TCP) + bpf_htons(sizeof(*a));
	total += sum_addresses(p);
	a->tcp.checksum = folded(total);
}

static __always_inline void turn_ether(struct ether *e)
{
#pragma unroll
	for (int i = 0; i < 6; i++) {
		__u8 byte = e->source[i];

		e->source[i] = e->destination[i];
		e->destination[i] = byte;
	}
}

static __always_inline int write_ipv4(struct xdp_md *ctx, struct packet *p, struct answer *a)
{
	struct iphdr *ip = bytes_at(ctx, p->network, sizeof(*ip) + sizeof(*a));

	if (!ip)
		return 0;
	ip->tos = 0;
	ip->total = bpf_htons(sizeof(*ip) + sizeof(*a));
	ip->id = 0;
	ip->fragment = bpf_htons(0x4000); /* never */
	ip->ttl = 64;
	ip->source = unmapped(p->target[1]);
	ip->target = unmapped(p->source[1]);
	ip->checksum = folded(bpf_htons(0x4500) + ip->total + ip->fragment + bpf_htons(64 << 8 | NEXT_TCP) + sum_addresses(p));
	__builtin_memcpy(ip + 1, a, sizeof(*a));
	return 1;
}

static __always_inline int write_ipv6(struct xdp_md *ctx, struct packet *p, struct answer *a)
{
	struct ipv6hdr *ip = bytes_at(ctx, p->network, sizeof(*ip) + sizeof(*a));

	if (!ip)
		return 0;
	ip->payload = bpf_htons(sizeof(*a));
	ip->hops = 64;
	__builtin_memcpy(ip->source, p->target, sizeof(ip->source));
	__builtin_memcpy(ip->target, p->source, sizeof(ip->target));
	__builtin_memcpy(ip + 1, a, sizeof(*a));
	return 1;
}

/* send_cookie makes a SYN its own answer. What is unusual, it leaves to the kernel, as it was. */
static __always_inline int send_cookie(struct xdp_md *ctx, struct packet *p, struct settings *s)
{
	__u32 network = p->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__u32 linear = ctx->data_end - ctx->data;
	__u32 bytes = p->network + network + sizeof(struct answer);
	struct answer a = {};
	struct ether *e;
	__be16 sequence[2];
	__s64 cookie;

	if (p->fragmented != WHOLE || p->at != p->network + network || p->bytes != linear)
		return 0;
	cookie = cookie_for(ctx, p, sequence);
	if (cookie < 0 || bpf_xdp_adjust_tail(ctx, (int)(bytes - linear)))
		return 0;
	fill_answer(p, &a, cookie, sequence, s);
	e = bytes_at(ctx, 0, sizeof(*e));
	if (!e)
		return 0;
	turn_ether(e);
	return p->family == 4 ? write_ipv4(ctx, p, &a) : write_ipv6(ctx, p, &a);
}
