package steer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

var (
	// ErrNotSupported says that the kernel lacks something; a *FeatureError says what.
	ErrNotSupported = errors.New("steer: not supported")
	// ErrPermission says that the process may not load or attach programs: it needs CAP_BPF,
	// CAP_NET_ADMIN and, to mount a BPF file system, CAP_SYS_ADMIN.
	ErrPermission = errors.New("steer: not permitted (CAP_BPF and CAP_NET_ADMIN are needed)")
	// ErrSuperseded says that another Steer has taken the pinned maps over.
	ErrSuperseded = errors.New("steer: another process has taken over")
	// ErrElsewhere says that what is pinned belongs to another network namespace, which still exists.
	ErrElsewhere = errors.New("steer: pinned program is attached to another network namespace")
	// ErrListener says that a socket can't be steered to.
	ErrListener = errors.New("steer: unsuitable listening socket")
	// ErrTarget says that an address can't be a mount target.
	ErrTarget = errors.New("steer: unsuitable mount target address")
	// ErrClosed says that the Steer was closed.
	ErrClosed = errors.New("steer: closed")
)

// A FeatureError says what the running kernel lacks. It is ErrNotSupported.
type FeatureError struct {
	Feature string // for people
	Since   string // the first kernel with it
	Err     error
}

func (e *FeatureError) Error() string {
	return fmt.Sprintf("steer: this kernel has no %s, which Linux has from %s: %v", e.Feature, e.Since, e.Err)
}

func (e *FeatureError) Is(target error) bool { return target == ErrNotSupported }

func (e *FeatureError) Unwrap() error { return e.Err }

// VerifierLog is what the kernel's verifier said about the program that it refused, or "". It has
// many lines.
func VerifierLog(err error) string {
	var v *ebpf.VerifierError
	if !errors.As(err, &v) {
		return ""
	}
	return strings.Join(v.Log, "\n")
}

// translate gives the errors of the kernel the types that callers look at.
func translate(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM) && !errors.As(err, new(*ebpf.VerifierError)):
		return fmt.Errorf("%w: %s: %w", ErrPermission, what, err)
	}
	return fmt.Errorf("steer: %s: %w", what, err)
}
