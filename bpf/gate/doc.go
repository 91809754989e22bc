// Package gate decides at the driver which packets reach the host's network stack on an interface
// that mount targets are served from: an XDP program, and its typed wrapper.
//
// docs/gate.md says how it decides and what that costs. In short: security groups admit TCP from
// prefixes to ports of mount targets; beside that pass only what the host needs itself: ARP and
// neighbour discovery, path MTU messages, DHCP, open ports, and replies to what it asked others.
//
//	gate.bpf.c   the verdicts          layout.h  what maps hold       parse.h   bytes to struct packet
//	rules.h      searches              limits.h  rates, fragments     kernel.h  the kernel's interface
//
//	Rules ──compile──▶ compiled ──Apply──▶ maps ◀── gate.bpf.c ──▶ counters, talkers, events
//
// # Invariants
//
//   - Each packet is judged by one set of rules: maps hold two, Apply writes the one that doesn't count,
//     switches with one store, and returns when no packet is judged by the old one any more.
//   - The flow cache can only say what the rules say: its entries carry the number of the Apply that
//     they were made under, and count under no other.
//   - Nothing is attached before rules are applied, and a gate with Options.PinDir that closes leaves
//     the program attached, so there is no moment in which everything passes or nothing does.
//   - A counter belongs to one mount target or rule while that is there. When Apply gives it to another,
//     it begins at zero.
//
// # Locks and goroutines
//
// Gate.mu is the only lock; no callback is called with it held. Drops starts the only goroutine, and
// Close waits for it.
package gate
