package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/kms"
)

// Error is an answer of the EFS API that is no success.
type Error struct {
	Status       int    `json:"-"` // of HTTP
	Code         string `json:"ErrorCode"`
	Message      string `json:"Message"`
	FileSystemID string `json:"FileSystemId,omitempty"` // with FileSystemAlreadyExists
	// AccessPointID comes with AccessPointAlreadyExists.
	AccessPointID string `json:"AccessPointId,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func badRequest(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "BadRequest", Message: fmt.Sprintf(format, args...)}
}

func unknownOperation(r *http.Request) *Error {
	return &Error{
		Status: http.StatusNotFound, Code: "UnknownOperationException",
		Message: fmt.Sprintf("there is no operation %s %s", r.Method, r.URL.Path),
	}
}

// asError gives err the API's own code.
func asError(err error) *Error {
	var known *Error
	var ofKMS *kms.Fault
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &ofKMS):
		return kmsFault(ofKMS)
	case errors.Is(err, catalog.ErrNotFound):
		return &Error{Status: http.StatusNotFound, Code: "FileSystemNotFound", Message: err.Error()}
	case errors.Is(err, catalog.ErrLimit):
		return &Error{Status: http.StatusForbidden, Code: "FileSystemLimitExceeded", Message: err.Error()}
	case errors.Is(err, catalog.ErrWrongState):
		return &Error{Status: http.StatusConflict, Code: "IncorrectFileSystemLifeCycleState", Message: err.Error()}
	case errors.Is(err, catalog.ErrNoAccessPoint):
		return &Error{Status: http.StatusNotFound, Code: "AccessPointNotFound", Message: err.Error()}
	case errors.Is(err, catalog.ErrAccessPointLimit):
		return &Error{Status: http.StatusForbidden, Code: "AccessPointLimitExceeded", Message: err.Error()}
	case errors.Is(err, catalog.ErrNoMountTarget):
		return &Error{Status: http.StatusNotFound, Code: "MountTargetNotFound", Message: err.Error()}
	case errors.Is(err, catalog.ErrNoSubnet):
		return &Error{Status: http.StatusBadRequest, Code: "SubnetNotFound", Message: err.Error()}
	case errors.Is(err, catalog.ErrNoGroup):
		return &Error{Status: http.StatusBadRequest, Code: "SecurityGroupNotFound", Message: err.Error()}
	case errors.Is(err, catalog.ErrNoRule):
		return &Error{Status: http.StatusBadRequest, Code: "SecurityGroupRuleNotFound", Message: err.Error()}
	case errors.Is(err, catalog.ErrTargetConflict):
		return &Error{Status: http.StatusConflict, Code: "MountTargetConflict", Message: err.Error()}
	case errors.Is(err, catalog.ErrAddressInUse):
		return &Error{Status: http.StatusConflict, Code: "IpAddressInUse", Message: err.Error()}
	case errors.Is(err, catalog.ErrNoFreeAddress):
		return &Error{Status: http.StatusConflict, Code: "NoFreeAddressesInSubnet", Message: err.Error()}
	case errors.Is(err, catalog.ErrInUse), errors.Is(err, catalog.ErrNameTaken):
		return &Error{Status: http.StatusConflict, Code: "ResourceInUse", Message: err.Error()}
	case errors.Is(err, catalog.ErrInvalid), errors.Is(err, catalog.ErrTagLimit):
		return badRequest("%v", err)
	case errors.Is(err, catalog.ErrConflict):
		return &Error{Status: http.StatusTooManyRequests, Code: "TooManyRequests", Message: err.Error()}
	default:
		return &Error{Status: http.StatusInternalServerError, Code: "InternalServerError", Message: err.Error()}
	}
}

func writeError(w http.ResponseWriter, e *Error) {
	w.Header().Set("X-Amzn-Errortype", e.Code)
	writeJSON(w, e.Status, e)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a peer that is gone is no error of ours
}
