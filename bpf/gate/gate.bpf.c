//go:build ignore

// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// This program is offered under both: the kernel gives the SYN cookie functions to programs under its own license.

/* The gate: what may pass from a storage interface to the host's network stack. docs/gate.md says how it
 * decides; layout.h what its maps hold. */

#include "kernel.h"
#include "layout.h"
#include "maps.h"
#include "parse.h"
#include "rules.h"
#include "limits.h"
#include "cookies.h"

#define NTP_PORT 123

/* is_reply says whether a socket of this host has opened a connection to the packet's source, or for UDP is
 * connected to it: not a listener, and with exactly these addresses and ports. Connections that the host has
 * accepted are not on ephemeral ports. Clients of NTP may leave their sockets unconnected, as systemd's does, and
 * judge themselves who answers. */
static __always_inline int is_reply(struct xdp_md *ctx, struct packet *p, struct settings *s)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sock;
	__u32 bytes;
	int ours;

	if (!is_ephemeral(p->target_port, s))
		return 0;
	if (p->family == 4) {
		tuple.ipv4.saddr = unmapped(p->source[1]);
		tuple.ipv4.daddr = unmapped(p->target[1]);
		tuple.ipv4.sport = bpf_htons(p->source_port);
		tuple.ipv4.dport = bpf_htons(p->target_port);
		bytes = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, p->source, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, p->target, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = bpf_htons(p->source_port);
		tuple.ipv6.dport = bpf_htons(p->target_port);
		bytes = sizeof(tuple.ipv6);
	}
	if (p->protocol == NEXT_TCP) {
		sock = bpf_skc_lookup_tcp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
		if (!sock)
			return 0;
		ours = sock->state != BPF_TCP_LISTEN;
	} else {
		sock = bpf_sk_lookup_udp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
		if (!sock)
			return 0;
		ours = sock->dst_port != 0 || (s->flags & ADMIT_TIME && p->source_port == NTP_PORT);
	}
	bpf_sk_release(sock);
	return ours;
}

static __always_inline int new_connection(struct xdp_md *ctx, struct packet *p, struct settings *s, int verdict)
{
	if (!within_pace(p, s))
		return DROP_RATE;
	if (in_flood(s) && send_cookie(ctx, p, s))
		return SENT_COOKIE;
	return verdict;
}

/* by_address judges by the target's rules, if it is for a target, and by the open ports. */
static __always_inline int by_address(struct packet *p, struct settings *s)
{
	struct target *t = find_target(p->half, p->target, s);
	int verdict = DROP_ADDRESS;

	if (t) {
		p->slot = t->slot;
		verdict = by_rules(p, t);
	}
	if (verdict >= FIRST_DROP && is_open(p->protocol, p->target_port, !!t, s))
		return PASS_OPEN;
	return verdict;
}

static __always_inline int judge_tcp(struct xdp_md *ctx, struct packet *p, struct settings *s)
{
	int verdict = parse_tcp(ctx, p), opening;

	if (verdict != CONTINUE)
		return verdict;
	opening = (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	if (opening) {
		verdict = by_address(p, s);
		return verdict < FIRST_DROP ? new_connection(ctx, p, s, verdict) : verdict;
	}
	verdict = by_address(p, s);
	if (verdict == PASS_RULE)
		keep_flow(p, s);
	if (verdict >= FIRST_DROP && is_reply(ctx, p, s))
		return PASS_REPLY;
	return verdict;
}

static __always_inline int is_dhcp(struct packet *p)
{
	if (p->family == 4)
		return p->source_port == 67 && p->target_port == 68;
	return p->source_port == 547 && p->target_port == 546;
}

static __always_inline int judge_udp(struct xdp_md *ctx, struct packet *p, struct settings *s)
{
	int verdict = parse_udp(ctx, p);
	struct target *t;

	if (verdict != CONTINUE)
		return verdict;
	if (s->flags & ADMIT_DHCP && is_dhcp(p))
		return PASS_DHCP;
	t = find_target(p->half, p->target, s);
	if (t)
		p->slot = t->slot;
	if (is_open(p->protocol, p->target_port, !!t, s))
		return PASS_OPEN;
	if (is_reply(ctx, p, s))
		return PASS_REPLY;
	return t ? DROP_PORT : DROP_ADDRESS;
}

static __always_inline int judge_icmp4(struct packet *p, struct icmphdr *icmp, struct settings *s)
{
	if (icmp->type == 3 && icmp->code == 4 && p->fragmented == WHOLE)
		return PASS_PMTU;
	if ((icmp->type == 8 || icmp->type == 0) && icmp->code == 0 && s->flags & ADMIT_ECHO)
		return PASS_ECHO;
	return DROP_ICMP;
}

/* Neighbour discovery is believed from this link only (RFC 4861 §7.1), and never in fragments (RFC 6980).
 * Multicast listener queries are for switches that snoop: without an answer, solicitations get lost. */
static __always_inline int judge_icmp6(struct packet *p, struct icmphdr *icmp, struct settings *s)
{
	if ((icmp->type == 128 || icmp->type == 129) && icmp->code == 0)
		return s->flags & ADMIT_ECHO ? PASS_ECHO : DROP_ICMP;
	if (p->fragmented != WHOLE)
		return DROP_ICMP;
	if (icmp->type == 2)
		return PASS_PMTU;
	if (icmp->type >= 134 && icmp->type <= 136 && icmp->code == 0 && p->hops == 255)
		return PASS_NEIGHBOUR;
	if (icmp->type == 130 && p->hops == 1)
		return PASS_NEIGHBOUR;
	return DROP_ICMP;
}

static __always_inline int judge_icmp(struct xdp_md *ctx, struct packet *p, struct settings *s)
{
	struct icmphdr *icmp = bytes_at(ctx, p->at, sizeof(*icmp));
	struct target *t;

	if (!icmp || p->payload < sizeof(*icmp))
		return DROP_MALFORMED;
	t = find_target(p->half, p->target, s);
	if (t)
		p->slot = t->slot;
	return p->family == 4 ? judge_icmp4(p, icmp, s) : judge_icmp6(p, icmp, s);
}

static __always_inline int judge_transport(struct xdp_md *ctx, struct packet *p, struct settings *s)
{
	if (p->fragmented == LATER)
		return later_fragment(p);
	if (p->protocol == NEXT_TCP)
		return judge_tcp(ctx, p, s);
	if (p->protocol == NEXT_UDP)
		return judge_udp(ctx, p, s);
	if (p->protocol == (p->family == 4 ? NEXT_ICMP : NEXT_ICMP6))
		return judge_icmp(ctx, p, s);
	return DROP_PROTOCOL;
}

/* judge leaves whatever is not for a mount target alone, if it is to judge nothing else. */
static __always_inline int judge(struct xdp_md *ctx, struct packet *p, struct settings *s, int only_targets)
{
	__u16 type = parse_ether(ctx, p);
	int verdict;

	switch (type) {
	case ETHERTYPE_IPV4:
		verdict = parse_ipv4(ctx, p);
		break;
	case ETHERTYPE_IPV6:
		verdict = parse_ipv6(ctx, p);
		break;
	case ETHERTYPE_ARP:
		return bytes_at(ctx, p->network, 28) ? PASS_NEIGHBOUR : DROP_MALFORMED;
	case 0:
		return DROP_MALFORMED;
	default:
		return only_targets ? PASS_OTHER : DROP_ETHERTYPE;
	}
	if (only_targets && !find_target(p->half, p->target, s))
		return PASS_OTHER;
	if (verdict != CONTINUE)
		return verdict;
	verdict = judge_transport(ctx, p, s);
	if (p->fragmented == FIRST && verdict < FIRST_DROP)
		expect_fragments(p);
	return verdict;
}

/* count gives how many packets the counter had before. */
static __always_inline __u64 count(void *map, __u32 key, __u32 bytes)
{
	struct counter *c = bpf_map_lookup_elem(map, &key);

	if (!c)
		return 1;
	c->bytes += bytes;
	return c->packets++;
}

/* spread hands a connection's packets to always the same of the CPUs. */
static __always_inline int spread(struct packet *p, struct settings *s)
{
	__u32 hash = (p->source[1] >> 32) ^ p->source[1] ^ p->target[1] ^ ports_of(p);

	hash *= 0x9e3779b1; /* 2^32 by the golden ratio */
	return bpf_redirect_map(&cpus, (__u64)(hash >> 16) * s->spread >> 16, XDP_PASS);
}

static __always_inline int finish(struct xdp_md *ctx, struct packet *p, struct settings *s, int verdict)
{
	__u64 before = count(&counters, p->slot * VERDICTS + verdict, p->bytes);

	if (verdict >= FIRST_DROP) {
		if (!(before & s->sample_mask))
			sample(ctx, p, s, verdict);
		return XDP_DROP;
	}
	if (p->rule)
		count(&rule_counters, p->rule - 1, p->bytes);
	if (verdict == SENT_COOKIE)
		return XDP_TX;
	if (verdict == PASS_RULE && s->spread)
		return spread(p, s);
	return XDP_PASS;
}

/* finish_flow is finish() for a packet of a flow. */
static __always_inline int finish_flow(struct plain *plain, struct flow *f, struct settings *s)
{
	struct packet p = {};

	count(&counters, f->slot * VERDICTS + PASS_RULE, plain->bytes);
	count(&rule_counters, f->rule - 1, plain->bytes);
	if (!s->spread)
		return XDP_PASS;
	p.source[1] = f->be_source[1];
	p.target[1] = f->be_target[1];
	p.source_port = f->ports >> 16;
	p.target_port = f->ports;
	return spread(&p, s);
}

/* finish_refused counts a plain packet's drop, unless that is to be sampled: then it gives 0, and judge() does
 * it all again, with more to tell. */
static __always_inline int finish_refused(struct plain *plain, int verdict, struct settings *s)
{
	__u32 key = plain->flow.slot * VERDICTS + verdict;
	struct counter *c = bpf_map_lookup_elem(&counters, &key);

	if (!c || !(c->packets & s->sample_mask))
		return 0;
	c->packets++;
	c->bytes += plain->bytes;
	return 1;
}

static __always_inline int run(struct xdp_md *ctx, int only_targets)
{
	__u32 half = active & 1;
	struct settings *s = &rules[half];
	struct plain plain = { .flow.epoch = s->epoch };
	struct flow *flow;
	struct packet p;
	int verdict;

	read_plain(ctx, &plain);
	if (plain.family) {
		flow = plain.opening ? 0 : flow_at(&plain.flow);
		if (flow && same_flow(flow, &plain.flow))
			return finish_flow(&plain, flow, s);
		verdict = refused(&plain, half, s);
		if (verdict && (plain.flow.slot || !only_targets) && finish_refused(&plain, verdict, s))
			return XDP_DROP;
	}
	__builtin_memset(&p, 0, sizeof(p));
	/* Kept in memory: in registers, each of the many ways out of judge() would write all fields anew. */
	asm volatile("" : : "r"(&p) : "memory");
	p.bytes = ctx->data_end - ctx->data;
	p.half = half;
	verdict = judge(ctx, &p, s, only_targets);
	return finish(ctx, &p, s, verdict);
}

/* For interfaces that nothing else may come in by. */
SEC("xdp.frags")
int gate(struct xdp_md *ctx)
{
	return run(ctx, 0);
}

/* For interfaces that mount targets share with whatever else a host does there. */
SEC("xdp.frags")
int gate_targets(struct xdp_md *ctx)
{
	return run(ctx, 1);
}

char the_license[] SEC("license") = "GPL";
