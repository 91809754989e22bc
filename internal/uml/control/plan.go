package control

import (
	"encoding/json"
	"fmt"
	"os"
)

// PlanVariable is the environment variable that names the plan's file to the guest's init.
const PlanVariable = "GUEST_PLAN"

// Link is one Ethernet wire between host and guest, a /24 with the host at .1 and the guest at .2.
type Link struct {
	// Name is the interface's name in the guest.
	Name string
	// Address is the guest's address with its prefix length.
	Address string
	// Gateway, where it is set, is the default route.
	Gateway string `json:",omitempty"`
	// MTU in bytes.
	MTU int
}

// Plan is what the host decides about a guest before it starts.
type Plan struct {
	// Kernel is the user-mode Linux binary; empty means the host's own kernel.
	Kernel string `json:",omitempty"`
	// KernelArgs is that kernel's command line.
	KernelArgs []string `json:",omitempty"`
	// Preload, where it is set, is a library that stands between Kernel and the host's.
	Preload string `json:",omitempty"`
	// Agent is the path of this binary, the same on the host and in the guest.
	Agent string
	// Hostname of the guest.
	Hostname string
	// Share is the one directory of the host that the guest can change, at the same path in both.
	Share string
	// ModuleDir holds modules.dep and the modules of the guest's kernel.
	ModuleDir string `json:",omitempty"`
	// Modules to load, by name, with all that they depend on.
	Modules []string `json:",omitempty"`
	// Links are configured in this order.
	Links []Link
	// Listen is the address of the control wire, host:port.
	Listen string
	// Ready is the host's address that the guest connects to once it listens, to say so.
	Ready string
}

// ReadPlan reads the file that WritePlan wrote.
func ReadPlan(path string) (*Plan, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	plan := new(Plan)
	if err := json.Unmarshal(text, plan); err != nil {
		return nil, fmt.Errorf("control: plan %s: %w", path, err)
	}
	return plan, nil
}

// WritePlan writes the plan as JSON.
func WritePlan(path string, plan *Plan) error {
	text, err := json.MarshalIndent(plan, "", "\t")
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}
