package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/nfseal/nfseal/appliance/iam"
)

const upgradePath = ownPath + "upgrade"

const (
	// maxUpgradeBytes bounds a bundle; what reads it has a bound of its own.
	maxUpgradeBytes = 3 << 30
	// upgradeTimeout bounds how long a bundle may be on its way.
	upgradeTimeout = time.Hour
)

// The states of an upgrade.
const (
	UpgradeNone    = "none"    // there was none since the machine started
	UpgradeWriting = "writing" // its bundle is being checked and written
	UpgradeFailed  = "failed"  // nothing was changed
	UpgradeWritten = "written" // the next start tries it
	UpgradeTrial   = "trial"   // it runs, and has to prove itself
	UpgradeBlessed = "blessed" // it runs and has proved itself
	UpgradeBack    = "back"    // it did not prove itself, and the version from before runs again
)

// UpgradeState is how the last upgrade went.
type UpgradeState struct {
	State   string `json:"state"`
	Version string `json:"version,omitempty"` // that the upgrade brings
	Detail  string `json:"detail,omitempty"`  // why it failed
}

// Upgrades takes bundles with another version of the system.
type Upgrades interface {
	// TakeUpgrade keeps what r gives for the part of the system that checks the signature and writes it.
	TakeUpgrade(ctx context.Context, r io.Reader) error
	// UpgradeState is how the last one went.
	UpgradeState(ctx context.Context) (UpgradeState, error)
}

// noUpgrades answers where the daemon is one program among others.
func noUpgrades() *Error {
	return &Error{Status: http.StatusNotImplemented, Code: "NoUpgrades",
		Message: "this daemon does not run in the appliance's image: upgrade it as it was installed"}
}

// UpgradeBusy says that another upgrade is under way.
func UpgradeBusy(why string) *Error {
	return &Error{Status: http.StatusConflict, Code: "UpgradeInProgress", Message: why}
}

// isUpgrade says whether the body of a request is a bundle, which its builder has signed, and which is too large to be
// read before it is known who sends it.
func isUpgrade(r *http.Request) bool { return r.Method == http.MethodPut && r.URL.Path == upgradePath }

func (s *Server) handleUpgrades(mux *http.ServeMux) {
	mux.HandleFunc("PUT "+upgradePath, func(w http.ResponseWriter, r *http.Request) {
		// A bundle takes longer than what is usually read here.
		control, end := http.NewResponseController(w), time.Now().Add(upgradeTimeout)
		if err := control.SetReadDeadline(end); err != nil && !errors.Is(err, http.ErrNotSupported) {
			answer(w, 0, nil, fmt.Errorf("api: %w", err))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxUpgradeBytes)
		status, body, err := s.perform(r, newEvent(r, ownService, "StartUpgrade", named(w)), efsOperation{handle: (*Server).prepareUpgrade})
		answer(w, status, body, err)
	})
}

func (s *Server) prepareUpgrade(*http.Request, map[string]string) (prepared, error) {
	if s.o.Upgrades == nil {
		return nil, noUpgrades()
	}
	return func(r *http.Request) (int, any, error) {
		if err := s.o.Upgrades.TakeUpgrade(r.Context(), r.Body); err != nil {
			return 0, nil, err
		}
		return http.StatusAccepted, UpgradeState{State: UpgradeWriting}, nil
	}, nil
}

func (s *Server) prepareUpgradeState(*http.Request, map[string]string) (prepared, error) {
	if s.o.Upgrades == nil {
		return nil, noUpgrades()
	}
	return func(r *http.Request) (int, any, error) {
		state, err := s.o.Upgrades.UpgradeState(r.Context())
		return http.StatusOK, state, err
	}, nil
}

// Upgrade sends a bundle of sizeBytes. That it was taken says that it arrived whole: UpgradeState tells what became of it.
func (c *Client) Upgrade(ctx context.Context, bundle io.Reader, sizeBytes int64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base+upgradePath, io.NopCloser(bundle))
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	request.ContentLength = sizeBytes
	if c.sign != nil {
		request.Header.Set("X-Amz-Content-Sha256", iam.UnsignedPayload)
		if err := c.sign(request, iam.UnsignedPayload); err != nil {
			return err
		}
	}
	long := *c.http
	long.Timeout = upgradeTimeout
	return c.answerOf(&long, request, nil)
}

// UpgradeState tells how the last upgrade went.
func (c *Client) UpgradeState(ctx context.Context) (UpgradeState, error) {
	var state UpgradeState
	return state, c.do(ctx, http.MethodGet, upgradePath, nil, &state)
}
