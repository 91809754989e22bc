package catalog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// What the catalog can answer about networks.
var (
	ErrNoSubnet       = errors.New("catalog: no such subnet")
	ErrNoGroup        = errors.New("catalog: no such security group")
	ErrNoRule         = errors.New("catalog: no such rule")
	ErrNoMountTarget  = errors.New("catalog: no such mount target")
	ErrInUse          = errors.New("catalog: in use")
	ErrNameTaken      = errors.New("catalog: name is taken")
	ErrAddressInUse   = errors.New("catalog: address is in use")
	ErrNoFreeAddress  = errors.New("catalog: no address of the subnet is free")
	ErrTargetConflict = errors.New("catalog: the file system has a mount target in this subnet")
)

// Subnet says on which interface of this machine its mount targets' addresses are kept. It has addresses of
// one family, or of both: Prefix is of IPv4 then.
type Subnet struct {
	ID        string       `json:"id"` // subnet- and 17 hexadecimal digits
	Name      string       `json:"name,omitempty"`
	Interface string       `json:"interface"` // its name, mac=… or pci=…
	Prefix    netip.Prefix `json:"prefix"`
	Gateway   netip.Addr   `json:"gateway,omitzero"`  // none: no way out of the subnet
	Prefix6   netip.Prefix `json:"prefix6,omitzero"`  // the IPv6 one of a subnet with both
	Gateway6  netip.Addr   `json:"gateway6,omitzero"` // belongs to Prefix6
	MTU       int          `json:"mtu,omitempty"`     // 0: as it is
	Up        bool         `json:"up,omitempty"`      // bring the interface up
}

// Range is the addresses of one family in a subnet.
type Range struct {
	Prefix  netip.Prefix
	Gateway netip.Addr // none: no way out of it
}

// Ranges are the one or two of a subnet, IPv4 first.
func (s *Subnet) Ranges() []Range {
	all := []Range{{s.Prefix, s.Gateway}}
	if s.Prefix6.IsValid() {
		all = append(all, Range{s.Prefix6, s.Gateway6})
	}
	return all
}

// SecurityGroup says who may connect to mount targets that have it. Nobody, without rules.
type SecurityGroup struct {
	ID          string    `json:"id"`   // sg- and 17 hexadecimal digits
	Name        string    `json:"name"` // of one group only
	Description string    `json:"description,omitempty"`
	Created     time.Time `json:"created"`
	Rules       []Rule    `json:"-"` // in the order of their ids; records of their own
}

// DefaultGroup is the name of the security group of mount targets that are made without any.
const DefaultGroup = "default"

// Rule admits sources to a range of TCP ports.
type Rule struct {
	ID       string         `json:"id"` // sgr- and 17 hexadecimal digits
	LowPort  uint16         `json:"lowPort"`
	HighPort uint16         `json:"highPort"`
	Sources  []netip.Prefix `json:"sources"`
}

// MountTarget is an address at which a file system is served, or two, one of each family.
type MountTarget struct {
	ID         string     `json:"id"` // fsmt- and 17 hexadecimal digits
	FileSystem string     `json:"fileSystem"`
	Subnet     string     `json:"subnet"`
	Address    netip.Addr `json:"address"`           // of either family
	Address6   netip.Addr `json:"address6,omitzero"` // the IPv6 one, if Address is of IPv4 and it has both
	Groups     []string   `json:"groups"`
	Created    time.Time  `json:"created"`
}

// Addresses are the one or two of a mount target, IPv4 first.
func (m *MountTarget) Addresses() []netip.Addr {
	if m.Address6.IsValid() {
		return []netip.Addr{m.Address, m.Address6}
	}
	return []netip.Addr{m.Address}
}

// Network is all of that, at one revision, each in the order of ids.
type Network struct {
	Subnets      []Subnet
	Groups       []SecurityGroup
	MountTargets []MountTarget
	revision     int64 // of networkKey
}

// Every change of a network record writes networkKey too, and compares its revision with that of the
// records that it was decided on.
const (
	networkPrefix = "net/"
	networkKey    = networkPrefix + "revision"
	subnetPrefix  = networkPrefix + "subnet/"
	groupPrefix   = networkPrefix + "group/"
	rulePrefix    = networkPrefix + "rule/" // then the group's id, a slash and the rule's
	targetPrefix  = networkPrefix + "target/"
)

var networkID = regexp.MustCompile(`^(subnet|sg|sgr|fsmt)-[0-9a-f]{17}$`)

// ValidNetworkID says whether id has the shape of an id of the kind: subnet, sg, sgr or fsmt.
func ValidNetworkID(kind, id string) bool {
	return networkID.MatchString(id) && strings.HasPrefix(id, kind+"-")
}

func newResourceID(kind string) string {
	var b [9]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return kind + "-" + hex.EncodeToString(b[:])[:17]
}

// Network reads all network records.
func (c *Catalog) Network(ctx context.Context) (Network, error) {
	kvs, _, err := c.store.Range(ctx, networkPrefix)
	if err != nil {
		return Network{}, err
	}
	n := Network{}
	rules := make(map[string][]Rule)
	for i := range kvs {
		if err := n.add(&kvs[i], rules); err != nil {
			return Network{}, err
		}
	}
	for i := range n.Groups {
		n.Groups[i].Rules = rules[n.Groups[i].ID]
	}
	return n, nil
}

// add takes up one record; rules are collected by group.
func (n *Network) add(kv *KeyValue, rules map[string][]Rule) error {
	switch {
	case kv.Key == networkKey:
		n.revision = kv.ModRevision
		return nil
	case strings.HasPrefix(kv.Key, subnetPrefix):
		return appendRecord(kv, &n.Subnets)
	case strings.HasPrefix(kv.Key, groupPrefix):
		return appendRecord(kv, &n.Groups)
	case strings.HasPrefix(kv.Key, rulePrefix):
		group, _, _ := strings.Cut(strings.TrimPrefix(kv.Key, rulePrefix), "/")
		list := rules[group]
		err := appendRecord(kv, &list)
		rules[group] = list
		return err
	case strings.HasPrefix(kv.Key, targetPrefix):
		return appendRecord(kv, &n.MountTargets)
	}
	return fmt.Errorf("%w: record %q", ErrNewerFormat, kv.Key)
}

// versioned is how a record is stored.
type versioned[T any] struct {
	Format int `json:"format"`
	Record T   `json:"record"`
}

func appendRecord[T any](kv *KeyValue, list *[]T) error {
	var r versioned[T]
	if err := json.Unmarshal(kv.Value, &r); err != nil {
		return fmt.Errorf("catalog: record %q is damaged", kv.Key)
	}
	if r.Format > recordFormat {
		return fmt.Errorf("%w: record %q has format %d", ErrNewerFormat, kv.Key, r.Format)
	}
	*list = append(*list, r.Record)
	return nil
}

func putRecord[T any](key string, record T) (Op, error) {
	value, err := json.Marshal(versioned[T]{recordFormat, record})
	if err != nil {
		return Op{}, fmt.Errorf("catalog: %w", err)
	}
	return Put(key, value), nil
}

// Subnet finds one by its id, nil if there is none.
func (n *Network) Subnet(id string) *Subnet {
	for i := range n.Subnets {
		if n.Subnets[i].ID == id {
			return &n.Subnets[i]
		}
	}
	return nil
}

// Group finds one by its id, nil if there is none.
func (n *Network) Group(id string) *SecurityGroup {
	for i := range n.Groups {
		if n.Groups[i].ID == id {
			return &n.Groups[i]
		}
	}
	return nil
}

// MountTarget finds one by its id, nil if there is none.
func (n *Network) MountTarget(id string) *MountTarget {
	for i := range n.MountTargets {
		if n.MountTargets[i].ID == id {
			return &n.MountTargets[i]
		}
	}
	return nil
}

// TargetsOf counts the mount targets of a file system.
func (n *Network) TargetsOf(fileSystem string) (count int) {
	for i := range n.MountTargets {
		if n.MountTargets[i].FileSystem == fileSystem {
			count++
		}
	}
	return count
}

// change decides on what there is, writes, and begins anew when something else was written meanwhile.
// decide leaves n as it will be.
func (c *Catalog) change(ctx context.Context, decide func(n *Network) (Txn, error)) error {
	for range maxRetries {
		n, err := c.Network(ctx)
		if err != nil {
			return err
		}
		txn, err := decide(&n)
		if err != nil {
			return err
		}
		txn.If = append(txn.If, Compare{networkKey, n.revision})
		txn.Then = append(txn.Then, Put(networkKey, nil))
		result, err := c.store.Txn(ctx, txn)
		if err != nil || result.Succeeded {
			return err
		}
	}
	return ErrConflict
}
