package maintenance

import (
	"context"
	"errors"
)

// Port is where the server listens, as the daemon's API does later.
const Port = "2051"

// Status is how a machine is.
type Status struct {
	Version   string   `json:"version"`
	Installer bool     `json:"installer"` // it was started from the medium for installations
	Reason    string   `json:"reason"`    // why it does not serve
	Disks     []Disk   `json:"disks"`
	Install   Progress `json:"install"`
}

// A Disk is one that the machine has.
type Disk struct {
	Name      string `json:"name"`
	Serial    string `json:"serial,omitempty"`
	WWID      string `json:"wwid,omitempty"`
	SizeBytes int64  `json:"sizeBytes"`
	// Refused says why nothing can be installed there, "" if it can.
	Refused string `json:"refused,omitempty"`
	// Data says in words that there is some, which is lost if the disk is taken; "" for an empty disk.
	Data string `json:"data,omitempty"`
}

// States of an installation.
const (
	InstallNone    = "none"
	InstallWriting = "writing"
	InstallDone    = "done"
	InstallFailed  = "failed"
)

// Progress is how an installation goes.
type Progress struct {
	State      string `json:"state"`
	Disk       string `json:"disk,omitempty"`
	DoneBytes  int64  `json:"doneBytes,omitempty"` // written or read back, of TotalBytes
	TotalBytes int64  `json:"totalBytes,omitempty"`
	Detail     string `json:"detail,omitempty"` // what went wrong
	SHA256     string `json:"sha256,omitempty"` // of the root that was written and read back
}

// An InstallRequest says what is installed where.
type InstallRequest struct {
	Disk string `json:"disk"` // its name, serial:… or wwid:…
	// Erase allows that what is on the disk is lost.
	Erase bool `json:"erase,omitempty"`
	// Configuration is what the new system keeps; "" has it look for one at its first start.
	Configuration string `json:"configuration,omitempty"`
}

// A Refusal is an error for the caller, who did something wrong.
type Refusal struct{ Text string }

// Error implements error.
func (r *Refusal) Error() string { return r.Text }

// ErrCode says that the code is wrong, ErrTooSoon that another wrong one was given a moment ago.
var (
	ErrCode    = errors.New("the code is not the one that the console shows")
	ErrTooSoon = errors.New("somebody gave a wrong code a moment ago: try again in a second")
)

// A Backend is the machine. What its caller did wrong is a *Refusal.
type Backend interface {
	Status(ctx context.Context) (Status, error)
	// Configure judges a configuration, and has the machine go on with it.
	Configure(ctx context.Context, text string) error
	// Install begins to install; Status tells how it goes on.
	Install(ctx context.Context, r InstallRequest) error
	// Restart starts the machine again.
	Restart(ctx context.Context) error
}
