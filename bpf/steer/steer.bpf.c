//go:build ignore

// The program that gives connections for mount targets to the proxy's listening sockets.
//
// It declares the few kernel types that it needs, so that it is built without kernel headers. All of
// them are part of the kernel's interface for user space and do not change.

typedef unsigned char __u8;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

enum {
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_SOCKMAP = 15,
	BPF_SK_LOOKUP_F_REPLACE = 1,
	BPF_SK_LOOKUP_F_NO_REUSEPORT = 2,
	SK_DROP = 0,
	SK_PASS = 1,
	AF_INET = 2,
	IPPROTO_TCP = 6,
};

// struct bpf_sk_lookup of linux/bpf.h.
struct bpf_sk_lookup {
	__u64 cookie;
	__u32 family;
	__u32 protocol;
	__u32 remote_ip4;
	__u32 remote_ip6[4];
	__u32 remote_port; // 16 bits in network order, then zeros
	__u32 local_ip4;
	__u32 local_ip6[4];
	__u32 local_port; // host order
	__u32 ingress_ifindex;
};

struct bpf_sock;

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_sk_release)(struct bpf_sock *sk) = (void *)86;
static long (*bpf_sk_assign)(struct bpf_sk_lookup *ctx, struct bpf_sock *sk, __u64 flags) = (void *)124;

// The limits stand in limits.go too; a test compares them.
#define MAX_TARGETS 4096
#define MAX_LISTENERS 128

// An IPv6 address in network order, or an IPv4 address as ::ffff:a.b.c.d.
struct address {
	__u32 words[4];
};

// The third word of ::ffff:a.b.c.d.
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define MAPPED_WORD 0xffff0000U
#else
#define MAPPED_WORD 0x0000ffffU
#endif

// Each processor counts for itself.
struct counters {
	__u64 steered; // given to a listening socket
	__u64 refused; // there was none
};

struct config {
	__u32 slots; // how many slots of sockets are in use, from the first
	__u32 port;
	__u32 seed;
	__u32 generation; // of whoever may change the maps; not used here
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, MAX_TARGETS);
	__type(key, struct address);
	__type(value, struct counters);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, MAX_LISTENERS);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} settings SEC(".maps");

static inline __attribute__((always_inline)) __u32 mix(__u32 h)
{
	h ^= h >> 16;
	h *= 0x85ebca6bU;
	h ^= h >> 13;
	h *= 0xc2b2ae35U;
	return h ^ h >> 16;
}

// A retransmitted SYN and the ACK that answers a SYN cookie give the same hash as the first SYN, and
// so find the same listening socket.
static inline __attribute__((always_inline)) __u32 hash(struct bpf_sk_lookup *ctx, __u32 seed)
{
	__u32 h = mix(seed ^ ctx->remote_port);

	h = mix(h ^ ctx->remote_ip6[0] ^ ctx->remote_ip6[2] * 0x9e3779b1U);
	return mix(h ^ ctx->remote_ip6[1] * 0x9e3779b1U ^ ctx->remote_ip6[3] ^ ctx->remote_ip4);
}

// The addresses of the other family are zero. There is no branch, because compilers share loads between
// branches by computing the address of the field, which the verifier refuses.
static inline __attribute__((always_inline)) void local_address(struct bpf_sk_lookup *ctx, struct address *a)
{
	__u32 mapped = ctx->family == AF_INET ? MAPPED_WORD : 0;

	a->words[0] = ctx->local_ip6[0];
	a->words[1] = ctx->local_ip6[1];
	a->words[2] = ctx->local_ip6[2] | mapped;
	a->words[3] = ctx->local_ip6[3] | ctx->local_ip4;
}

// listener looks in the slot of the connection, then in those after it: one is empty where a worker's
// socket was closed, or while a shorter list of sockets replaces a longer one.
static inline __attribute__((always_inline)) struct bpf_sock *listener(__u32 slot, __u32 slots)
{
	struct bpf_sock *sk = 0;

#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < MAX_LISTENERS && i < slots; i++) {
		sk = bpf_map_lookup_elem(&sockets, &slot);
		if (sk)
			break;
		slot = slot + 1 < slots ? slot + 1 : 0;
	}
	return sk;
}

SEC("sk_lookup")
int steer(struct bpf_sk_lookup *ctx)
{
	struct counters *counters;
	struct address local;
	struct bpf_sock *sk;
	struct config *c;
	__u32 zero = 0, slots;
	long failed;

	c = bpf_map_lookup_elem(&settings, &zero);
	if (!c || ctx->protocol != IPPROTO_TCP || ctx->local_port != c->port)
		return SK_PASS;
	local_address(ctx, &local);
	counters = bpf_map_lookup_elem(&targets, &local);
	if (!counters)
		return SK_PASS;

	slots = c->slots;
	sk = listener((__u64)hash(ctx, c->seed) * slots >> 32, slots);
	if (!sk)
		goto refuse;
	// The socket that was chosen stands, though it be one of a SO_REUSEPORT group.
	failed = bpf_sk_assign(ctx, sk, BPF_SK_LOOKUP_F_REPLACE | BPF_SK_LOOKUP_F_NO_REUSEPORT);
	bpf_sk_release(sk);
	if (failed)
		goto refuse;
	counters->steered++;
	return SK_PASS;

refuse:
	// Never to a socket of somebody else who listens at the port of every address.
	counters->refused++;
	return SK_DROP;
}

// None of the helpers used asks for the GPL.
char the_license[] SEC("license") = "Apache-2.0";
