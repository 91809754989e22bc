package api

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// memoryIntegrity is the operations of a Backend that look for damage. A check finds one leak; a scrub goes on
// until it is cancelled.
type memoryIntegrity struct {
	mu    sync.Mutex
	scrub Scrub
	keys  DataKeys
}

func (*memoryIntegrity) CheckFileSystem(_ context.Context, id string) (Check, error) {
	return Check{Unit: "unit-1", FileSystem: id, Online: true, Found: 1, Leaks: 1, Problems: []string{"a leak"}, Inodes: 3}, nil
}

func (i *memoryIntegrity) ChangeScrub(_ context.Context, id string, r ScrubRequest) (Scrub, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	wanted, next := ScrubRunning, ScrubPaused
	switch r.Action {
	case ScrubStart:
		i.scrub = Scrub{FileSystem: id, State: ScrubRunning, BytesPerSecond: r.BytesPerSecond, BytesRead: 1 << 20,
			BytesTotal: 4 << 20, Started: time.Unix(1700000000, 0).UTC(), At: ScrubPosition{Inode: 7, FileBlock: 256},
			BadBlocks: 1, Bad: []ScrubBadBlock{{Inode: 7, FileBlock: 3, VolumeBlock: 99}}}
		return i.scrub, nil
	case ScrubResume:
		wanted, next = ScrubPaused, ScrubRunning
	case ScrubCancel:
		next = ScrubCancelled
	}
	if i.scrub.State != wanted {
		return Scrub{}, WrongScrubState(r.Action, i.scrub.State)
	}
	i.scrub.State = next
	return i.scrub, nil
}

func (i *memoryIntegrity) ScrubOf(_ context.Context, id string) (Scrub, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.scrub.FileSystem != id {
		return Scrub{}, NoScrub(id)
	}
	return i.scrub, nil
}

// TestIntegrity checks and scrubs through a client, and sees what is refused and what is on record.
func TestIntegrity(t *testing.T) {
	s, _, log := newServer(t)
	socket := filepath.Join(t.TempDir(), "api.sock")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c := NewClient(socket)
	defer func() {
		c.Close()
		if err := errors.Join(s.Close(), <-served); err != nil {
			t.Error(err)
		}
	}()
	const id = "fs-00000000000000001"
	check, err := c.CheckFileSystem(t.Context(), id)
	if err != nil || check.FileSystem != id || check.Leaks != 1 || len(check.Problems) != 1 {
		t.Errorf("check: %+v, %v", check, err)
	}
	if _, err := c.ScrubOf(t.Context(), id); statusOf(err) != http.StatusNotFound {
		t.Errorf("before a scrub: %v", err)
	}
	for _, step := range []struct {
		r      ScrubRequest
		state  string
		status int
	}{
		{ScrubRequest{Action: ScrubStart, BytesPerSecond: 100}, "", http.StatusBadRequest},
		{ScrubRequest{Action: "stop"}, "", http.StatusBadRequest},
		{ScrubRequest{Action: ScrubStart, BytesPerSecond: 1 << 20, From: ScrubPosition{Inode: 5}}, ScrubRunning, 0},
		{ScrubRequest{Action: ScrubPause}, ScrubPaused, 0},
		{ScrubRequest{Action: ScrubPause}, "", http.StatusConflict},
		{ScrubRequest{Action: ScrubResume}, ScrubRunning, 0},
		{ScrubRequest{Action: ScrubCancel}, ScrubCancelled, 0},
	} {
		got, err := c.ChangeScrub(t.Context(), id, step.r)
		if got.State != step.state || statusOf(err) != step.status {
			t.Errorf("%+v: %+v, %v", step.r, got, err)
		}
	}
	if got, err := c.ScrubOf(t.Context(), id); err != nil || got.State != ScrubCancelled || got.At.Inode != 7 {
		t.Errorf("the scrub: %+v, %v", got, err)
	}
	if _, err := c.ScrubOf(t.Context(), "home"); statusOf(err) != http.StatusBadRequest {
		t.Errorf("no id: %v", err)
	}
	checkDataKeys(t, c, id)
	names := map[string]int{}
	for _, e := range log.events {
		names[e.Name]++
	}
	if names["RotateDataKey"] < 6 {
		t.Errorf("on record: %v", names)
	}
	if names["CheckFileSystem"] != 1 || names["ChangeScrub"] < 7 {
		t.Errorf("on record: %v", names)
	}
}

// checkDataKeys gives a file system new data keys through a client.
func checkDataKeys(t *testing.T, c *Client, id string) {
	t.Helper()
	if d, err := c.DataKeysOf(t.Context(), id); err != nil || d.State != DataKeyNone || d.Number != 1 || d.Percent() != 100 {
		t.Errorf("before a rotation: %+v, %v", d, err)
	}
	for _, step := range []struct {
		r      DataKeyRequest
		state  string
		status int
	}{
		{DataKeyRequest{Action: DataKeyPause}, "", http.StatusConflict},
		{DataKeyRequest{Action: "stop"}, "", http.StatusBadRequest},
		{DataKeyRequest{Action: DataKeyRotate, BytesPerSecond: 100}, "", http.StatusBadRequest},
		{DataKeyRequest{Action: DataKeyRotate}, DataKeyRunning, 0},
		{DataKeyRequest{Action: DataKeyRotate}, "", http.StatusConflict},
		{DataKeyRequest{Action: DataKeyPause}, DataKeyPaused, 0},
		{DataKeyRequest{Action: DataKeyResume}, DataKeyRunning, 0},
	} {
		got, err := c.ChangeDataKeys(t.Context(), id, step.r)
		if got.State != step.state || statusOf(err) != step.status {
			t.Errorf("%+v: %+v, %v", step.r, got, err)
		}
	}
	if d, err := c.DataKeysOf(t.Context(), id); err != nil || d.Retired != 1 || d.Percent() != 75 {
		t.Errorf("under way: %+v, %v", d, err)
	}
	if _, err := c.DataKeysOf(t.Context(), "home"); statusOf(err) != http.StatusBadRequest {
		t.Errorf("no id: %v", err)
	}
}

// statusOf is the HTTP status of a refusal, 0 of none.
func statusOf(err error) int {
	var refused *Error
	if errors.As(err, &refused) {
		return refused.Status
	}
	return 0
}

// ChangeDataKeys lets a rotation go on for ever.
func (i *memoryIntegrity) ChangeDataKeys(_ context.Context, id string, r DataKeyRequest) (DataKeys, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	d := &i.keys
	switch {
	case r.Action == DataKeyRotate && d.State == "":
		*d = DataKeys{FileSystem: id, Number: 2, Retired: 1, State: DataKeyRunning, BytesPerSecond: max(r.BytesPerSecond, 1<<20),
			Started: time.Unix(1700000000, 0).UTC(), BytesLeft: 1 << 20, BytesTotal: 4 << 20}
	case r.Action == DataKeyPause && d.State == DataKeyRunning:
		d.State = DataKeyPaused
	case r.Action == DataKeyResume && d.State != "":
		d.State = DataKeyRunning
	default:
		return DataKeys{}, WrongDataKeyState(r.Action, d.State)
	}
	return *d, nil
}

// DataKeysOf tells of it, and then it ends.
func (i *memoryIntegrity) DataKeysOf(_ context.Context, id string) (DataKeys, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keys.State == "" {
		return DataKeys{FileSystem: id, Number: 1, State: DataKeyNone}, nil
	}
	d := i.keys
	if d.State == DataKeyRunning {
		i.keys.Retired, i.keys.BytesLeft, i.keys.State = 0, 0, DataKeyDone
	}
	return d, nil
}
