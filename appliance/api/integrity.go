package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// integrityPath is where checks and scrubs of a file system are; they are for this machine's operator
// and belong to no API of AWS.
const integrityPath = "/nfseal/v1/file-systems/"

// Check is what a check of one file system's metadata found, or of a unit's volume.
type Check struct {
	Unit       string `json:"unit"`
	FileSystem string `json:"fileSystem,omitempty"` // empty for the volume
	// Online says that the file system was served meanwhile: blocks in use by nobody were not looked for.
	Online bool `json:"online"`
	// Failure is why it could not be checked.
	Failure string `json:"failure,omitempty"`
	// Found is how many problems there are, of which Problems has the first thousand. Leaks of them
	// cost room and nothing else; Repaired is how many leaks there were and are no more.
	Found    uint64   `json:"found"`
	Leaks    uint64   `json:"leaks"`
	Repaired uint64   `json:"repaired"`
	Problems []string `json:"problems"`

	Inodes        uint64 `json:"inodes"`
	Directories   uint64 `json:"directories"`
	Entries       uint64 `json:"entries"`
	Extents       uint64 `json:"extents"`
	VolumeBlocks  uint64 `json:"volumeBlocks"`
	JournalBlocks uint64 `json:"journalBlocks"`
	InlineBlocks  uint64 `json:"inlineBlocks"`
}

// ScrubAction is what is done to a scrub.
type ScrubAction string

// The actions. A start makes a new one, and is refused while there is one that has not ended.
const (
	ScrubStart  ScrubAction = "start"
	ScrubPause  ScrubAction = "pause"
	ScrubResume ScrubAction = "resume"
	ScrubCancel ScrubAction = "cancel"
)

// ScrubPosition is where a scrub is: an inode number and a block of 4 KiB of that file. Zeros are the
// begin.
type ScrubPosition struct {
	Inode     uint64 `json:"inode"`
	FileBlock uint64 `json:"fileBlock"`
}

// ScrubRequest starts, pauses, resumes or cancels a scrub.
type ScrubRequest struct {
	Action ScrubAction `json:"action"`
	// BytesPerSecond is the pace of a start, 0 the default; with a resume, the new one, 0 as before.
	BytesPerSecond uint64 `json:"bytesPerSecond,omitempty"`
	// From is where a start begins.
	From ScrubPosition `json:"from,omitzero"`
}

// The states of a scrub.
const (
	ScrubRunning   = "running"
	ScrubPaused    = "paused"
	ScrubDone      = "done"
	ScrubCancelled = "cancelled"
	ScrubFailed    = "failed"
)

// ScrubBadBlock is a block that could not be read.
type ScrubBadBlock struct {
	Inode       uint64 `json:"inode"`
	FileBlock   uint64 `json:"fileBlock"`
	VolumeBlock uint64 `json:"volumeBlock"`
	// Unreadable says that the device failed; else the block is not what was written there.
	Unreadable bool `json:"unreadable"`
}

// Scrub is how the last scrub of a file system is, since the daemon started.
type Scrub struct {
	FileSystem     string        `json:"fileSystem"`
	State          string        `json:"state"`
	Failure        string        `json:"failure,omitempty"`
	BytesPerSecond uint64        `json:"bytesPerSecond"`
	Started        time.Time     `json:"started"`
	Ended          time.Time     `json:"ended,omitzero"`
	At             ScrubPosition `json:"at"` // where a start From goes on, if it did not end by itself
	Records        uint64        `json:"records"`
	BytesRead      uint64        `json:"bytesRead"`
	BytesTotal     uint64        `json:"bytesTotal"` // about: what the file system held at the start
	BadBlocks      uint64        `json:"badBlocks"`
	Damaged        uint64        `json:"damaged"` // lists of extents that can't be read
	// Bad are the first thousand bad blocks.
	Bad []ScrubBadBlock `json:"bad"`
}

// Integrity is the part of Backend that looks for damage.
type Integrity interface {
	// CheckFileSystem checks the metadata of a file system that is served, and lets nobody wait.
	CheckFileSystem(ctx context.Context, id string) (Check, error)
	// ChangeScrub starts, pauses, resumes or cancels a scrub. It returns at once.
	ChangeScrub(ctx context.Context, id string, r ScrubRequest) (Scrub, error)
	// ScrubOf is how the last one is.
	ScrubOf(ctx context.Context, id string) (Scrub, error)
}

// NoScrub answers for a file system that was not scrubbed since the daemon started.
func NoScrub(id string) error {
	return &Error{Status: http.StatusNotFound, Code: "ScrubNotFound", Message: id + " was not scrubbed since the daemon started"}
}

// WrongScrubState refuses an action that the scrub's state does not allow.
func WrongScrubState(a ScrubAction, state string) error {
	return &Error{Status: http.StatusConflict, Code: "IncorrectScrubState",
		Message: "a scrub that is " + state + " can't take the action " + string(a)}
}

// handleIntegrity adds checks and scrubs to mux.
func (s *Server) handleIntegrity(mux *http.ServeMux) {
	for pattern, op := range map[string]efsOperation{
		"POST " + integrityPath + "{id}/check": {"CheckFileSystem", (*Server).prepareCheck},
		"POST " + integrityPath + "{id}/scrub": {"ChangeScrub", (*Server).prepareScrub},
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			id := newRequestID()
			w.Header().Set("X-Amzn-Requestid", id)
			status, body, err := s.perform(r, newEvent(r, "nfseal", op.name, id), op)
			answer(w, status, body, err)
		})
	}
}

func (s *Server) prepareScrubOf(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := inPath(r, parameters, "id", isFileSystemID)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (int, any, error) {
		scrub, err := s.o.Backend.ScrubOf(r.Context(), id)
		return http.StatusOK, scrub, err
	}, nil
}

func (s *Server) prepareCheck(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := inPath(r, parameters, "id", isFileSystemID)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (int, any, error) {
		check, err := s.o.Backend.CheckFileSystem(r.Context(), id)
		return http.StatusOK, check, err
	}, nil
}

func (s *Server) prepareScrub(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := inPath(r, parameters, "id", isFileSystemID)
	if err != nil {
		return nil, err
	}
	var request ScrubRequest
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	switch request.Action {
	case ScrubStart, ScrubPause, ScrubResume, ScrubCancel:
	default:
		return nil, validation("%q is no action: start, pause, resume or cancel", clip(string(request.Action)))
	}
	if request.BytesPerSecond != 0 && request.BytesPerSecond < minScrubBytes {
		return nil, validation("a scrub of less than %d bytes a second is not started", minScrubBytes)
	}
	parameters["action"] = string(request.Action)
	parameters["bytesPerSecond"] = strconv.FormatUint(request.BytesPerSecond, 10)
	return func(r *http.Request) (int, any, error) {
		scrub, err := s.o.Backend.ChangeScrub(r.Context(), id, request)
		return http.StatusOK, scrub, err
	}, nil
}

// CheckFileSystem checks the metadata of a file system while it is served. That takes as long as it
// takes: ctx bounds it.
func (c *Client) CheckFileSystem(ctx context.Context, id string) (Check, error) {
	patient := *c
	patient.http = &http.Client{Transport: c.http.Transport, CheckRedirect: c.http.CheckRedirect}
	var check Check
	return check, patient.do(ctx, http.MethodPost, integrityPath+url.PathEscape(id)+"/check", nil, &check)
}

// ChangeScrub starts, pauses, resumes or cancels a scrub, and tells how it is then.
func (c *Client) ChangeScrub(ctx context.Context, id string, r ScrubRequest) (Scrub, error) {
	var s Scrub
	return s, c.do(ctx, http.MethodPost, integrityPath+url.PathEscape(id)+"/scrub", r, &s)
}

// ScrubOf tells how the last scrub of a file system is.
func (c *Client) ScrubOf(ctx context.Context, id string) (Scrub, error) {
	var s Scrub
	return s, c.do(ctx, http.MethodGet, integrityPath+url.PathEscape(id)+"/scrub", nil, &s)
}
