package main

import (
	"context"
	"sync"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

// shelfIntegrity is the operations of a Backend that look for damage. A check finds one leak; a scrub goes on
// until it is cancelled.
type shelfIntegrity struct {
	mu    sync.Mutex
	scrub api.Scrub
	keys  api.DataKeys
}

func (*shelfIntegrity) CheckFileSystem(_ context.Context, id string) (api.Check, error) {
	return api.Check{Unit: "unit-1", FileSystem: id, Online: true, Found: 1, Leaks: 1, Problems: []string{"a leak"}, Inodes: 3}, nil
}

func (i *shelfIntegrity) ChangeScrub(_ context.Context, id string, r api.ScrubRequest) (api.Scrub, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	wanted, next := api.ScrubRunning, api.ScrubPaused
	switch r.Action {
	case api.ScrubStart:
		i.scrub = api.Scrub{FileSystem: id, State: api.ScrubRunning, BytesPerSecond: r.BytesPerSecond, BytesRead: 1 << 20,
			BytesTotal: 4 << 20, Started: time.Unix(1700000000, 0).UTC(), At: api.ScrubPosition{Inode: 7, FileBlock: 256},
			BadBlocks: 1, Bad: []api.ScrubBadBlock{{Inode: 7, FileBlock: 3, VolumeBlock: 99}}}
		return i.scrub, nil
	case api.ScrubResume:
		wanted, next = api.ScrubPaused, api.ScrubRunning
	case api.ScrubCancel:
		next = api.ScrubCancelled
	}
	if i.scrub.State != wanted {
		return api.Scrub{}, api.WrongScrubState(r.Action, i.scrub.State)
	}
	i.scrub.State = next
	return i.scrub, nil
}

func (i *shelfIntegrity) ScrubOf(_ context.Context, id string) (api.Scrub, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.scrub.FileSystem != id {
		return api.Scrub{}, api.NoScrub(id)
	}
	return i.scrub, nil
}

// ChangeDataKeys lets a rotation go on for ever.
func (i *shelfIntegrity) ChangeDataKeys(_ context.Context, id string, r api.DataKeyRequest) (api.DataKeys, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	d := &i.keys
	switch {
	case r.Action == api.DataKeyRotate && d.State == "":
		*d = api.DataKeys{FileSystem: id, Number: 2, Retired: 1, State: api.DataKeyRunning, BytesPerSecond: max(r.BytesPerSecond, 1<<20),
			Started: time.Unix(1700000000, 0).UTC(), BytesLeft: 1 << 20, BytesTotal: 4 << 20}
	case r.Action == api.DataKeyPause && d.State == api.DataKeyRunning:
		d.State = api.DataKeyPaused
	case r.Action == api.DataKeyResume && d.State != "":
		d.State = api.DataKeyRunning
	default:
		return api.DataKeys{}, api.WrongDataKeyState(r.Action, d.State)
	}
	return *d, nil
}

// DataKeysOf tells of it, and then it ends.
func (i *shelfIntegrity) DataKeysOf(_ context.Context, id string) (api.DataKeys, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keys.State == "" {
		return api.DataKeys{FileSystem: id, Number: 1, State: api.DataKeyNone}, nil
	}
	d := i.keys
	if d.State == api.DataKeyRunning {
		i.keys.Retired, i.keys.BytesLeft, i.keys.State = 0, 0, api.DataKeyDone
	}
	return d, nil
}
