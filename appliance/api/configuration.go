package api

import (
	"context"
	"net/http"
	"time"
)

const configurationPath = ownPath + "configuration"

// Bounds of how long a configuration may be tried.
const (
	MinTrySeconds = 5
	MaxTrySeconds = 3600
)

// ApplyConfigurationRequest is a configuration file, and whether it is tried only.
type ApplyConfigurationRequest struct {
	Text string `json:"text"`
	// TrySeconds is after how many seconds without a confirmation the one from before is taken again; 0: it stays.
	TrySeconds int `json:"trySeconds,omitempty"`
}

// ConfigurationState is the configuration file that is in force.
type ConfigurationState struct {
	Text string `json:"text"`
	// TryUntil is when the one from before is taken again, unless this one is confirmed; zero if this one stays.
	TryUntil time.Time `json:"tryUntil,omitzero"`
}

// Configurations keeps the daemon's configuration file.
type Configurations interface {
	// ApplyConfiguration judges a file as a start would, and has the daemon start again with it. InvalidConfiguration says
	// what is wrong, ConfigurationBusy that another one is being tried.
	ApplyConfiguration(ctx context.Context, r ApplyConfigurationRequest) error
	// ConfirmConfiguration keeps the one that is being tried; NoTrial.
	ConfirmConfiguration(ctx context.Context) error
	// ConfigurationState is the file in force.
	ConfigurationState(ctx context.Context) (ConfigurationState, error)
}

// InvalidConfiguration says what is wrong with a file.
func InvalidConfiguration(why string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "InvalidConfiguration", Message: why}
}

// ConfigurationBusy refuses a file while another one is being tried.
func ConfigurationBusy() *Error {
	return &Error{Status: http.StatusConflict, Code: "ConfigurationOnTrial", Message: "another configuration is being tried: confirm it, or wait until it is taken back"}
}

// NoTrial says that there is nothing to confirm.
func NoTrial() *Error {
	return &Error{Status: http.StatusConflict, Code: "NoTrial", Message: "no configuration is being tried; one that was not confirmed in time was taken back"}
}

func noConfiguration() *Error {
	return &Error{Status: http.StatusNotImplemented, Code: "NoConfigurationFile", Message: "the daemon was started without a configuration file (nfseald -config FILE)"}
}

func (s *Server) handleConfiguration(mux *http.ServeMux) {
	for pattern, op := range map[string]efsOperation{
		"PUT " + configurationPath:               {"ApplyConfiguration", (*Server).prepareApply},
		"POST " + configurationPath + "/confirm": {"ConfirmConfiguration", (*Server).prepareConfirm},
		"GET " + configurationPath:               {"DescribeConfiguration", (*Server).prepareConfiguration},
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			status, body, err := s.perform(r, newEvent(r, ownService, op.name, named(w)), op)
			answer(w, status, body, err)
		})
	}
}

func (s *Server) prepareApply(r *http.Request, _ map[string]string) (prepared, error) {
	var request ApplyConfigurationRequest
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	if n := request.TrySeconds; n != 0 && (n < MinTrySeconds || n > MaxTrySeconds) {
		return nil, badRequest("a configuration is tried for %d to %d seconds, not %d", MinTrySeconds, MaxTrySeconds, n)
	}
	if s.o.Configurations == nil {
		return nil, noConfiguration()
	}
	return func(r *http.Request) (int, any, error) {
		return http.StatusAccepted, nil, s.o.Configurations.ApplyConfiguration(r.Context(), request)
	}, nil
}

func (s *Server) prepareConfirm(*http.Request, map[string]string) (prepared, error) {
	if s.o.Configurations == nil {
		return nil, noConfiguration()
	}
	return func(r *http.Request) (int, any, error) {
		return http.StatusNoContent, nil, s.o.Configurations.ConfirmConfiguration(r.Context())
	}, nil
}

func (s *Server) prepareConfiguration(*http.Request, map[string]string) (prepared, error) {
	if s.o.Configurations == nil {
		return nil, noConfiguration()
	}
	return func(r *http.Request) (int, any, error) {
		state, err := s.o.Configurations.ConfigurationState(r.Context())
		return http.StatusOK, state, err
	}, nil
}

// ApplyConfiguration has the daemon start again with another configuration file.
func (c *Client) ApplyConfiguration(ctx context.Context, r ApplyConfigurationRequest) error {
	return c.do(ctx, http.MethodPut, configurationPath, r, nil)
}

// ConfirmConfiguration keeps the configuration that is being tried.
func (c *Client) ConfirmConfiguration(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, configurationPath+"/confirm", nil, nil)
}

// Configuration is the file in force.
func (c *Client) Configuration(ctx context.Context) (ConfigurationState, error) {
	var state ConfigurationState
	return state, c.do(ctx, http.MethodGet, configurationPath, nil, &state)
}
