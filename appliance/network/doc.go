// Package network keeps mount target addresses on the interfaces of this machine: it compares what is
// wanted with what the kernel has, through netlink, and does the difference.
//
//	Desired ─┐
//	         ├─▶ Plan (pure) ─▶ actions ─▶ kernel
//	Actual ──┘        └───────▶ problems ─▶ Status
//
// # What is ours
//
// Everything it makes carries Protocol, a number in the kernel's own records: IFA_PROTO on addresses
// (Linux 5.18), rtm_protocol on routes, FRA_PROTOCOL on rules. It is the only state: a restart, or
// another version, finds its work again. What has another mark, or none, is never changed and never
// removed; an address that somebody else put where it is wanted is used as it is.
//
// Two settings belong to an interface and can't be marked: the MTU is set where one is wanted and
// stays when it is wanted no more, and an interface is brought up where that is asked for, and never
// down.
//
// The kernel removes the other IPv4 addresses of a subnet together with the first one, unless
// promote_secondaries is set. It is set, if it was not, while one of ours is deleted. The kernel also
// drops all routes of an interface with its last IPv4 address; so new ones come before old ones go.
//
// # Routes and rules
//
// An address with a gateway answers through the interface that it is on, whatever the main routing table
// says: rule "from address lookup T", and in table T = TableBase + index of the interface, the subnet
// and the default route through the gateway. The index is the kernel's number of the interface, so no two
// interfaces share a table.
//
// # Restoring
//
// A Manager listens to the kernel's notices of links, addresses, routes and rules, looks again after
// each, and at every tick in case it missed one. When somebody keeps undoing its work, the pauses
// between its attempts double up to maxPause.
//
// # Goroutines and locks
//
// A Manager owns two goroutines, one that reads notices and one that reconciles; Close ends and waits
// for both, and leaves everything in place. Set reconciles on the caller's. Manager.pass is held during
// a pass, before Manager.mu, which is a leaf. Events is called with pass held.
package network
