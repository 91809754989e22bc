package api

import "time"

// Network is all that /nfseal/v1/network tells. Lists are empty where the part that fills them is off.
type Network struct {
	Parts      []Feature          `json:"parts"`
	Addresses  []NetworkAddress   `json:"addresses"`
	Restored   uint64             `json:"restored"` // changes by others that were put right
	Programs   []NetworkProgram   `json:"programs"`
	Interfaces []NetworkInterface `json:"interfaces"` // that are guarded
	Sockets    int                `json:"sockets"`    // that connections are steered to
	Steered    []NetworkSteered   `json:"steered"`
	Targets    []NetworkTarget    `json:"targets"` // what the gate decided for each mount target
	Rules      []NetworkRule      `json:"rules"`
	Verdicts   []NetworkVerdict   `json:"verdicts"`
	Sources    []NetworkSource    `json:"sources"` // those that were refused most
	Drops      []NetworkDrop      `json:"drops"`   // the last ones, newest first
}

// NetworkAddress is a mount target address.
type NetworkAddress struct {
	Address   string `json:"address"`            // with the length of its prefix
	Interface string `json:"interface"`          // as configured
	Name      string `json:"name,omitempty"`     // of the interface, if there is one
	MTU       int    `json:"mtu,omitempty"`      // that the interface has
	Present   bool   `json:"present"`            //
	Problem   string `json:"problem,omitempty"`  // why not all is as wanted
	ByOthers  bool   `json:"byOthers,omitempty"` // somebody else had put it there
}

// NetworkProgram is a program in the kernel. Its runs are those of the times in which somebody measured.
type NetworkProgram struct {
	Name              string `json:"name"`
	Runs              uint64 `json:"runs"`
	RunNanoseconds    int64  `json:"runNanoseconds"`
	PerRunNanoseconds int64  `json:"perRunNanoseconds"`
}

// NetworkInterface is an interface with the gate.
type NetworkInterface struct {
	Name   string `json:"name"`
	Judges string `json:"judges"`        // all, or packets to mount targets only
	Mode   string `json:"mode"`          // native or generic
	Why    string `json:"why,omitempty"` // it is not native
}

// NetworkSteered counts the connections to a mount target address.
type NetworkSteered struct {
	Address string `json:"address"`
	Steered uint64 `json:"steered"`
	Refused uint64 `json:"refused"` // no socket was open
}

// NetworkRule counts what a rule of a security group has admitted.
type NetworkRule struct {
	Group   string `json:"group"`
	Index   int    `json:"index"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// NetworkTarget counts what the gate decided about packets to a mount target.
type NetworkTarget struct {
	ID       string           `json:"id"` // or its address, if it is not of the catalog
	Verdicts []NetworkVerdict `json:"verdicts"`
}

// NetworkVerdict counts what the gate decided.
type NetworkVerdict struct {
	Name    string `json:"name"`
	Dropped bool   `json:"dropped"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// NetworkSource is who was refused.
type NetworkSource struct {
	Address string `json:"address"`
	Packets uint64 `json:"packets"` // an estimate
	Verdict string `json:"verdict"` // of the last one
	Target  string `json:"target,omitempty"`
}

// NetworkDrop is a packet that was refused.
type NetworkDrop struct {
	Time      time.Time `json:"time"`
	Verdict   string    `json:"verdict"`
	Source    string    `json:"source"`
	To        string    `json:"to"`
	Target    string    `json:"target,omitempty"`
	Interface int       `json:"interface"` // index
	Bytes     int       `json:"bytes"`
}
