/* What is limited by time: new connections of a source, drop events, fragments that are waited for. */
#pragma once

#define FRAGMENT_NANOSECONDS 30000000000ULL /* as net.ipv4.ipfrag_time */
#define BUCKET_TRIES 4

/* within_pace lets a new connection of this source happen, or not (GCRA: each may be syn_tolerance ahead
 * of one every syn_interval). Two CPUs at once: one of them tries again. */
static __always_inline int within_pace(struct packet *p, struct settings *s)
{
	struct source_key key = {};
	__u64 now, due, next, *bucket;

	if (!s->syn_interval)
		return 1;
	key.be_address[0] = p->source[0];
	if (p->family == 4)
		key.be_address[1] = p->source[1];
	now = bpf_ktime_get_coarse_ns();
	bucket = bpf_map_lookup_elem(&buckets, &key);
	if (!bucket) {
		next = now + s->syn_interval;
		bpf_map_update_elem(&buckets, &key, &next, BPF_ANY);
		return 1;
	}
	for (int i = 0; i < BUCKET_TRIES; i++) {
		due = *(volatile __u64 *)bucket;
		next = (due > now ? due : now) + s->syn_interval;
		if (next - now > s->syn_tolerance)
			return 0;
		if (__sync_val_compare_and_swap(bucket, due, next) == due)
			return 1;
	}
	return 0;
}

static __always_inline void fragment_key(struct packet *p, struct fragment_key *key)
{
	__builtin_memcpy(key->be_source, p->source, sizeof(key->be_source));
	__builtin_memcpy(key->be_target, p->target, sizeof(key->be_target));
	key->be_id = p->id;
	key->protocol = p->family == 4 ? p->protocol : 0;
}

/* later_fragment admits what belongs to an admitted first fragment, and never bytes that would replace
 * those of a TCP header that was judged (RFC 1858, RFC 3128). */
static __always_inline int later_fragment(struct packet *p)
{
	struct fragment_key key = {};
	struct fragment *first;

	if (p->protocol == NEXT_TCP && p->offset < sizeof(struct tcphdr))
		return DROP_FRAGMENT;
	fragment_key(p, &key);
	first = bpf_map_lookup_elem(&fragments, &key);
	if (!first || first->expires < bpf_ktime_get_coarse_ns())
		return DROP_FRAGMENT;
	p->slot = first->slot;
	return PASS_FRAGMENT;
}

static __always_inline void expect_fragments(struct packet *p)
{
	struct fragment_key key = {};
	struct fragment value = { .slot = p->slot };

	fragment_key(p, &key);
	value.expires = bpf_ktime_get_coarse_ns() + FRAGMENT_NANOSECONDS;
	bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
}

static __always_inline void count_talker(struct drop_event *e)
{
	struct source_key key = {};
	struct talker new = { .samples = 1, .slot = e->slot, .verdict = e->verdict }, *old;

	__builtin_memcpy(key.be_address, e->be_source, sizeof(key.be_address));
	old = bpf_map_lookup_elem(&talkers, &key);
	if (!old) {
		bpf_map_update_elem(&talkers, &key, &new, BPF_ANY);
		return;
	}
	__sync_fetch_and_add(&old->samples, 1);
	old->slot = e->slot;
	old->verdict = e->verdict;
}

/* event_due says whether this CPU may send an event now. */
static __always_inline int event_due(struct settings *s)
{
	__u32 zero = 0;
	struct pace *pace = bpf_map_lookup_elem(&paces, &zero);
	__u64 now, next;

	if (!pace)
		return 0;
	now = bpf_ktime_get_coarse_ns();
	next = (pace->events_due > now ? pace->events_due : now) + s->event_interval;
	if (next - now > s->event_tolerance)
		return 0;
	pace->events_due = next;
	return 1;
}

/* tell sends user space a sampled drop: always its source's count, and an event at a bounded pace. A function
 * of its own, so that what most packets run stays small. */
static __noinline int tell(struct drop_event *e, struct settings *s)
{
	if (!e || !s)
		return 0;
	if (e->family)
		count_talker(e);
	if (event_due(s))
		bpf_ringbuf_output(&events, e, sizeof(*e), 0);
	return 0;
}

static __always_inline void sample(struct xdp_md *ctx, struct packet *p, struct settings *s, int verdict)
{
	struct drop_event e = {};

	__builtin_memcpy(e.be_source, p->source, sizeof(e.be_source));
	__builtin_memcpy(e.be_target, p->target, sizeof(e.be_target));
	e.slot = p->slot;
	e.interface = ctx->ingress_ifindex;
	e.bytes = p->bytes;
	e.source_port = p->source_port;
	e.target_port = p->target_port;
	e.verdict = verdict;
	e.protocol = p->protocol;
	e.tcp_flags = p->tcp_flags;
	e.family = p->family;
	tell(&e, s);
}
