package api

import (
	"net/http"
	"time"
)

// ownService is what signatures for the appliance's own operations have as their service.
const ownService = "nfseal"

// iamSource is the source of operations on users and roles, in records and actions.
const iamSource = "iam"

// ownMux answers what belongs to no API of AWS.
func (s *Server) ownMux() *http.ServeMux {
	mux := http.NewServeMux()
	s.handleReads(mux)
	s.handleIAM(mux, userOperations)
	s.handleIAM(mux, roleOperations)
	s.handleIntegrity(mux)
	s.handleUpgrades(mux)
	s.handleDataKeys(mux)
	s.handleConfiguration(mux)
	mux.HandleFunc(ownPath, s.efs)
	mux.HandleFunc("/", unknown)
	return mux
}

// serveOwn answers signed requests.
func (s *Server) serveOwn(w http.ResponseWriter, r *http.Request) { s.own.ServeHTTP(w, r) }

func unknown(w http.ResponseWriter, r *http.Request) { writeError(w, unknownOperation(r)) }

// handleReads adds to mux what only tells something.
func (s *Server) handleReads(mux *http.ServeMux) {
	for pattern, read := range map[string]efsOperation{
		"GET " + ownPath + "status":                {"DescribeStatus", (*Server).prepareStatus},
		"GET " + ownPath + "network":               {"DescribeNetwork", (*Server).prepareNetwork},
		"GET " + upgradePath:                       {"DescribeUpgrade", (*Server).prepareUpgradeState},
		"GET " + compliancePath:                    {"DescribeCompliance", (*Server).prepareCompliance},
		"GET " + integrityPath + "{id}" + "/scrub": {"DescribeScrub", (*Server).prepareScrubOf},
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.tell(w, r, read) })
	}
}

// tell does an operation that changes nothing. Callers from afar are asked for their right and put on record as for
// every other one; on the local socket, where monitors ask every few seconds, there is nothing to judge or to record.
func (s *Server) tell(w http.ResponseWriter, r *http.Request, read efsOperation) {
	event := newEvent(r, ownService, read.name, named(w))
	if callerOf(r.Context()) != nil {
		status, body, err := s.perform(r, event, read)
		answer(w, status, body, err)
		return
	}
	do, err := read.handle(s, r, event.Parameters)
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	status, body, err := do(r)
	answer(w, status, body, err)
}

func (s *Server) prepareStatus(*http.Request, map[string]string) (prepared, error) {
	return func(r *http.Request) (int, any, error) {
		status, err := s.o.Backend.Status(r.Context())
		return http.StatusOK, status, err
	}, nil
}

// prepareNetwork takes ?measure=, a time to measure the programs for, as "1s".
func (s *Server) prepareNetwork(r *http.Request, _ map[string]string) (prepared, error) {
	var measure time.Duration
	if text := r.URL.Query().Get("measure"); text != "" {
		var err error
		if measure, err = time.ParseDuration(text); err != nil || measure < 0 || measure > maxMeasure {
			return nil, badRequest("measure must be a time up to %v", maxMeasure)
		}
	}
	return func(r *http.Request) (int, any, error) {
		network, err := s.o.Backend.Network(r.Context(), measure)
		return http.StatusOK, network, err
	}, nil
}
