package gate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

var (
	// ErrNotSupported says that the kernel or a driver lacks something; a *FeatureError says what.
	ErrNotSupported = errors.New("gate: not supported")
	// ErrPermission says that the process may not load or attach programs: it needs CAP_BPF,
	// CAP_PERFMON and CAP_NET_ADMIN.
	ErrPermission = errors.New("gate: not permitted (CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN are needed)")
	// ErrMemory says that the kernel gives no memory for the maps.
	ErrMemory = errors.New("gate: the kernel gives no memory for its maps: raise RLIMIT_MEMLOCK or the cgroup's memory.max, or lower Options.MaxPrefixes")
	// ErrVerifier says that the kernel's verifier refused the program; VerifierLog says why.
	ErrVerifier = errors.New("gate: the kernel's verifier refuses the program, which is known to be accepted from Linux 6.1")
	// ErrBusy says that the interface runs an XDP program that isn't ours.
	ErrBusy = errors.New("gate: the interface runs another XDP program: detach that first (ip link set dev NAME xdp off)")
	// ErrRules says that rules contradict themselves, or exceed a limit.
	ErrRules = errors.New("gate: unsuitable rules")
	// ErrNoRules says that nothing may be attached before rules are applied: it would refuse everything.
	ErrNoRules = errors.New("gate: no rules applied yet")
	// ErrCookies says that the kernel would not accept SYN cookies that it hasn't sent itself.
	ErrCookies = errors.New("gate: SYN cookies need net.ipv4.tcp_syncookies=2")
	// ErrOptions says that a field of Options is out of its range.
	ErrOptions = errors.New("gate: unsuitable options")
	// ErrClosed says that the Gate was closed.
	ErrClosed = errors.New("gate: closed")
)

// A FeatureError says what the running kernel or a driver lacks. It is ErrNotSupported.
type FeatureError struct {
	Feature string // for people
	Since   string // where it is: the first kernel, or what kind of driver
	Err     error
}

func (e *FeatureError) Error() string {
	return fmt.Sprintf("gate: no %s here, which there is with %s: %v", e.Feature, e.Since, e.Err)
}

// Is makes each FeatureError an ErrNotSupported.
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

// A refusal keeps the verifier's many lines out of the sentence that people read.
type refusal struct {
	kind error
	err  error
}

func (r *refusal) Error() string   { return r.kind.Error() }
func (r *refusal) Unwrap() []error { return []error{r.kind, r.err} }

// translate gives the errors of the kernel the types that callers look at.
func translate(what string, err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &verifier) && errors.Is(err, unix.EINVAL) && mentions(verifier, "unknown func"):
		return &FeatureError{"BPF helper that the gate calls", "Linux 6.1", &refusal{ErrVerifier, err}}
	case errors.As(err, &verifier) && len(verifier.Log) > 0:
		return &refusal{ErrVerifier, err}
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %s: %w", ErrPermission, what, err)
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.E2BIG):
		return fmt.Errorf("%w: %s: %w", ErrMemory, what, err)
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return &FeatureError{what, "Linux 6.1", err}
	}
	return fmt.Errorf("gate: %s: %w", what, err)
}

func mentions(v *ebpf.VerifierError, words string) bool {
	for _, line := range v.Log {
		if strings.Contains(line, words) {
			return true
		}
	}
	return false
}
