package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// DataKeyAction is what is done about the data keys of a file system.
type DataKeyAction string

// The actions. A rotation makes new keys and begins to encrypt everything anew; one that failed goes on with
// it. It can't be taken back.
const (
	DataKeyRotate DataKeyAction = "rotate"
	DataKeyPause  DataKeyAction = "pause"
	DataKeyResume DataKeyAction = "resume"
)

// DataKeyRequest begins, pauses or resumes a rotation of data keys.
type DataKeyRequest struct {
	Action DataKeyAction `json:"action"`
	// BytesPerSecond is the pace from now on, 0 the one that there is.
	BytesPerSecond uint64 `json:"bytesPerSecond,omitempty"`
}

// The states of a rotation.
const (
	DataKeyNone    = "none" // there was none since the daemon started, and none is under way
	DataKeyRunning = "running"
	DataKeyPaused  = "paused"
	DataKeyStopped = "stopped" // the file system is not served now
	DataKeyFailed  = "failed"
	DataKeyDone    = "done"
)

// DataKeys says which data keys a file system has, and how far new ones are.
type DataKeys struct {
	FileSystem string `json:"fileSystem"`
	// Number counts the file system's data keys, those that everything new is under, from 1. Retired is the
	// number of those that are still needed, 0 if there are none.
	Number  int    `json:"number"`
	Retired int    `json:"retired,omitempty"`
	State   string `json:"state"`
	Failure string `json:"failure,omitempty"`

	BytesPerSecond uint64    `json:"bytesPerSecond,omitempty"`
	Started        time.Time `json:"started,omitzero"` // of this rotation, or when it went on
	Ended          time.Time `json:"ended,omitzero"`
	// BytesLeft are still under the retired keys, BytesTotal is all that there is: content and metadata.
	BytesLeft  uint64 `json:"bytesLeft"`
	BytesTotal uint64 `json:"bytesTotal"`
	// BadBlocks can't be read, and keep the retired keys from being destroyed; BadInode has one of them.
	BadBlocks uint64 `json:"badBlocks,omitempty"`
	BadInode  uint64 `json:"badInode,omitempty"`
	// WaitsForSpace says that the volume is too full for a copy.
	WaitsForSpace bool `json:"waitsForSpace,omitempty"`
}

// Percent is how much is under the current keys.
func (d *DataKeys) Percent() int {
	if d.Retired == 0 {
		return 100
	}
	if d.BytesTotal == 0 || d.BytesLeft >= d.BytesTotal {
		return 0
	}
	return int(float64(d.BytesTotal-d.BytesLeft) / float64(d.BytesTotal) * 100)
}

// DataKeyBackend is the part of Backend that gives file systems new data keys.
type DataKeyBackend interface {
	// ChangeDataKeys begins, pauses or resumes. It returns at once.
	ChangeDataKeys(ctx context.Context, id string, r DataKeyRequest) (DataKeys, error)
	// DataKeysOf tells how it is.
	DataKeysOf(ctx context.Context, id string) (DataKeys, error)
}

// WrongDataKeyState refuses an action that the state does not allow.
func WrongDataKeyState(a DataKeyAction, state string) error {
	return &Error{Status: http.StatusConflict, Code: "IncorrectDataKeyState",
		Message: "a change of data keys that is " + state + " can't take the action " + string(a)}
}

// NoRoomForDataKeys refuses a rotation for which the volume has no room.
func NoRoomForDataKeys(id string, need, free uint64) error {
	return &Error{Status: http.StatusConflict, Code: "InsufficientVolumeCapacity",
		Message: fmt.Sprintf("new data keys for %s need %d bytes that no file system has on its volume, and there are %d: delete something, or let the volume grow", id, need, free)}
}

// handleDataKeys adds them to mux.
func (s *Server) handleDataKeys(mux *http.ServeMux) {
	change := efsOperation{"RotateDataKey", (*Server).prepareDataKeys}
	mux.HandleFunc("POST "+integrityPath+"{id}/data-keys", func(w http.ResponseWriter, r *http.Request) {
		id := newRequestID()
		w.Header().Set("X-Amzn-Requestid", id)
		status, body, err := s.perform(r, newEvent(r, ownService, change.name, id), change)
		answer(w, status, body, err)
	})
	read := efsOperation{"DescribeDataKeys", (*Server).prepareDataKeysOf}
	mux.HandleFunc("GET "+integrityPath+"{id}/data-keys", func(w http.ResponseWriter, r *http.Request) { s.tell(w, r, read) })
}

func (s *Server) prepareDataKeys(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := inPath(r, parameters, "id", isFileSystemID)
	if err != nil {
		return nil, err
	}
	var request DataKeyRequest
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	switch request.Action {
	case DataKeyRotate, DataKeyPause, DataKeyResume:
	default:
		return nil, validation("%q is no action: rotate, pause or resume", clip(string(request.Action)))
	}
	if request.BytesPerSecond != 0 && request.BytesPerSecond < minScrubBytes {
		return nil, validation("less than %d bytes a second are not possible", minScrubBytes)
	}
	parameters["action"] = string(request.Action)
	parameters["bytesPerSecond"] = strconv.FormatUint(request.BytesPerSecond, 10)
	return func(r *http.Request) (int, any, error) {
		keys, err := s.o.Backend.ChangeDataKeys(r.Context(), id, request)
		return http.StatusOK, keys, err
	}, nil
}

func (s *Server) prepareDataKeysOf(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := inPath(r, parameters, "id", isFileSystemID)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (int, any, error) {
		keys, err := s.o.Backend.DataKeysOf(r.Context(), id)
		return http.StatusOK, keys, err
	}, nil
}

// ChangeDataKeys begins, pauses or resumes a rotation of data keys.
func (c *Client) ChangeDataKeys(ctx context.Context, id string, r DataKeyRequest) (DataKeys, error) {
	var d DataKeys
	return d, c.do(ctx, http.MethodPost, integrityPath+url.PathEscape(id)+"/data-keys", r, &d)
}

// DataKeysOf tells which data keys a file system has, and how far new ones are.
func (c *Client) DataKeysOf(ctx context.Context, id string) (DataKeys, error) {
	var d DataKeys
	return d, c.do(ctx, http.MethodGet, integrityPath+url.PathEscape(id)+"/data-keys", nil, &d)
}
