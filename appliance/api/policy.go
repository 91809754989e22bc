package api

import (
	"errors"
	"net/http"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/policy"
)

// PutFileSystemPolicyRequest is the body of PutFileSystemPolicy. The lockout check that AWS makes is
// about callers who lose the right to put a policy; the local socket needs no such right, so Bypass
// changes nothing.
type PutFileSystemPolicyRequest struct {
	Policy string `json:"Policy"`
	Bypass bool   `json:"BypassPolicyLockoutSafetyCheck,omitempty"`
}

// FileSystemPolicyDescription is a file system's policy, as it was put.
type FileSystemPolicyDescription struct {
	FileSystemID string `json:"FileSystemId"`
	Policy       string `json:"Policy"`
}

func (s *Server) preparePutPolicy(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	if err != nil {
		return nil, err
	}
	var request PutFileSystemPolicyRequest
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	parameters["policy"] = clip(request.Policy)
	return func(r *http.Request) (int, any, error) {
		if err := s.o.Backend.PutFileSystemPolicy(r.Context(), id, request.Policy); err != nil {
			return 0, nil, policyError(id, err)
		}
		return http.StatusOK, FileSystemPolicyDescription{id, request.Policy}, nil
	}, nil
}

func (s *Server) prepareDescribePolicy(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (int, any, error) {
		text, err := s.o.Backend.FileSystemPolicy(r.Context(), id)
		if err != nil {
			return 0, nil, policyError(id, err)
		}
		return http.StatusOK, FileSystemPolicyDescription{id, text}, nil
	}, nil
}

func (s *Server) prepareDeletePolicy(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (int, any, error) {
		return http.StatusOK, nil, policyError(id, s.o.Backend.DeleteFileSystemPolicy(r.Context(), id))
	}, nil
}

// policyError gives an error that is about policies its code.
func policyError(id string, err error) error {
	switch {
	case errors.Is(err, policy.ErrMalformed):
		return &Error{Status: http.StatusBadRequest, Code: "InvalidPolicyException", Message: err.Error()}
	case errors.Is(err, catalog.ErrNoPolicy):
		return &Error{
			Status: http.StatusNotFound, Code: "PolicyNotFound",
			Message: "File system '" + id + "' has no policy: everybody who reaches it may mount it.",
		}
	}
	return noFileSystem(id, err)
}
