/* What the kernel program and its Go wrapper share: the layout of every map, and the verdicts.
 * All integers are in host order unless they are called be. "half" is 0 or 1: rules are double-buffered,
 * so each map of rules holds two sets, and `active` says which one counts. */
#pragma once

#define HALVES 2
#define OPEN_PORTS 16
#define VERDICTS 32
#define LINE_BOUNDS 16
#define NODE_KEYS 8

enum verdict {
	/* Admitted. */
	PASS_RULE = 0,	/* a rule of the target's security groups */
	PASS_OPEN,	/* a port that is open to everybody: the API, OCSP */
	PASS_REPLY,	/* a reply to a connection that this host opened */
	PASS_FRAGMENT,	/* a later part of an admitted datagram */
	PASS_PMTU,	/* ICMP fragmentation needed, ICMPv6 packet too big */
	PASS_NEIGHBOUR, /* ARP, neighbour discovery, multicast listener queries */
	PASS_DHCP,
	PASS_ECHO,
	SENT_COOKIE, /* answered in the driver with a SYN cookie */
	PASS_OTHER,  /* not for a mount target, where nothing else is judged */
	/* Refused. */
	DROP_MALFORMED = 16, /* truncated, or lengths that contradict each other */
	DROP_ETHERTYPE,	     /* neither IP nor ARP, or more than two VLAN tags */
	DROP_HEADERS,	     /* IPv6 extension headers that nobody needs, or too many */
	DROP_PROTOCOL,	     /* neither TCP, UDP nor the ICMP of its family */
	DROP_ADDRESS,	     /* not for a mount target, and nothing else admits it */
	DROP_SOURCE,	     /* no rule of the target knows this source */
	DROP_PORT,	     /* a rule knows the source, but not this port */
	DROP_RATE,	     /* more new connections than a source may open */
	DROP_FRAGMENT,	     /* a later fragment without its first, or one that overlaps a header */
	DROP_ICMP,	     /* a type that is not let in */
};

#define FIRST_DROP DROP_MALFORMED

struct open_port {
	__u16 low, high;
	__u8 protocol;
	__u8 host_only; /* not on mount targets: there the groups alone decide */
	__u8 unused[2];
};

enum setting {
	ADMIT_DHCP = 1,
	ADMIT_ECHO = 2,
	ADMIT_TIME = 4,
};

/* The settings of a half. Times in nanoseconds. */
struct settings {
	__u64 target_seed;  /* what the hash of a target's address is multiplied with */
	__u32 target_shift; /* how much of the product is dropped */
	__u32 epoch;	    /* another one with each Apply, never 0: flows of other epochs don't count */
	__u64 known6_base;  /* the prefix that has all known sources of IPv6, upper half */
	__u32 known6_bits;  /* its length, at most 48 */
	__u32 nodes6;	    /* of the tree */
	__u64 syn_interval;  /* between two new connections of a source; 0: no limit */
	__u64 syn_tolerance; /* how far ahead of that pace a source may be */
	__u64 event_interval; /* between two drop events of a CPU */
	__u64 event_tolerance;
	__u32 cookie_above;  /* SYNs a second and CPU; 0: never */
	__u32 sample_mask;   /* a drop is sampled when its counter & mask is 0 */
	__u16 ephemeral_low, ephemeral_high;
	__u16 cookie_mss4, cookie_mss6;
	enum setting flags;
	__u32 open_count;
	__u32 spread; /* CPUs in the map `cpus`; 0: stay on this one */
	__u32 unused;
	struct open_port open[OPEN_PORTS];
};

/* Addresses are in network order, IPv4 as ::ffff:a.b.c.d, and compared as two words. */

/* targets: the addresses of mount targets, by hash. The entry is at the hash of the address or one of the
 * TARGET_PROBES-1 places behind it, without a hole in between. */
#define TARGET_PROBES 16

struct target {
	__u64 be_address[2];
	__u32 slot;   /* of its counters; 0: no entry here */
	__u32 policy; /* targets with the same security groups share one */
	__u64 unused;
};

/* flows: connections whose packets were admitted by a rule, as many for each CPU; a cache without which all
 * works the same, but slower. */
#define FLOWS 4096

struct flow {
	__u64 be_source[2];
	__u64 be_target[2];
	__u32 ports;
	__u32 epoch;
	__u32 slot;
	__u32 rule;
	__u64 unused[2];
};

/* spans4: for each /16 of IPv4, where its bounds begin in bounds4, and the class at its first address. */
struct span4 {
	__u32 first;
	__u16 count;
	__u16 class;
};

/* bounds4: sorted; from this address on (its lower 16 bits), sources are of this class. A cache line each. */
struct bound4 {
	__u16 low;
	__u16 class;
};
struct line4 {
	struct bound4 bounds[LINE_BOUNDS];
};

/* known4, known6: a bit for each block of addresses in which some source is known to a rule; 8 KiB a half, so
 * that most sources that nobody knows cost no cache miss. For IPv4 a block is a /16. For IPv6 all blocks are in
 * the shortest prefix that has all known sources, of at most 48 bits, and are numbered by the next 16 bits. */
#define KNOWN_WORDS 1024

/* nodes6: the different upper halves of the sorted bounds of IPv6, as a static search tree; child k of node n is
 * n*9+1+k. A cache line each. leaves6: for each key of the same node, the class of what is above its last bound
 * and below the next key. shared6: where bounds differ in the lower half only, 1 plus the number of their group;
 * apart, because sources that nobody knows hardly ever meet a key exactly. */
struct node6 {
	__u64 high[NODE_KEYS];
};
struct leaf6 {
	__u16 class[NODE_KEYS];
};
struct sharing6 {
	__u32 group[NODE_KEYS];
};
/* groups6: the bounds, in lows6, that share an upper half; before is the class below the first. */
struct group6 {
	__u32 first;
	__u32 count;
	__u32 before;
};
struct low6 {
	__u64 low;
	__u64 class;
};

/* pairs: what a policy admits from a class of sources. The first range is inline, others are in ranges. */
struct pair_key {
	__u32 half_policy; /* half << 31 | policy */
	__u32 class;
};
struct range {
	__u16 low, high;
	__u32 rule;
};
struct pair {
	struct range range;
	__u32 more;
	__u32 count;
};

struct counter {
	__u64 packets;
	__u64 bytes;
};

/* fragments: datagrams whose first fragment was admitted. */
struct fragment_key {
	__u64 be_source[2];
	__u64 be_target[2];
	__u32 be_id;
	__u32 protocol;
};
struct fragment {
	__u64 expires;
	__u32 slot;
	__u32 unused;
};

/* buckets, talkers: by source. For new connections, IPv6 sources count as their /64. */
struct source_key {
	__u64 be_address[2];
};
struct talker {
	__u64 samples;
	__u32 slot;
	enum verdict verdict;
};

/* pace: what a CPU keeps for itself. */
struct pace {
	__u64 events_due; /* drop events are ahead of their pace until then */
	__u64 second;	  /* in which SYNs are being counted */
	__u32 syns;
	__u32 unused;
};

/* events, the ring buffer. */
struct drop_event {
	__u64 be_source[2];
	__u64 be_target[2];
	__u32 slot;
	__u32 interface;
	__u32 bytes;
	__u16 source_port;
	__u16 target_port;
	__u8 verdict;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 family;
	__u8 unused[4];
};
