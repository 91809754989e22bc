package api

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/policy"
)

// anyPolicy is one that is well formed.
const anyPolicy = `{"Statement":{"Effect":"Allow","Principal":"*","Action":"elasticfilesystem:ClientMount"}}`

func (m *memoryBackend) exists(id string) bool {
	return slices.ContainsFunc(m.list, func(f catalog.FileSystem) bool { return f.ID == id })
}

func (m *memoryBackend) GrowVolume(_ context.Context, unit string, sizeBytes int64) (int64, error) {
	if unit != "u" {
		return 0, NoUnit(unit)
	}
	return sizeBytes, nil
}

func (m *memoryBackend) SetQuota(ctx context.Context, id string, quotaBytes uint64) error {
	_, err := m.ChangeFileSystem(ctx, id, func(f *catalog.FileSystem) error {
		f.QuotaBytes = quotaBytes
		return nil
	})
	return err
}

func (m *memoryBackend) ChangeFileSystem(_ context.Context, id string, change func(*catalog.FileSystem) error) (catalog.FileSystem, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := slices.IndexFunc(m.list, func(f catalog.FileSystem) bool { return f.ID == id })
	if k < 0 {
		return catalog.FileSystem{}, catalog.ErrNotFound
	}
	f := m.list[k]
	if err := change(&f); err != nil {
		return f, err
	}
	m.list[k] = f
	return f, m.fail
}

func (m *memoryBackend) PutFileSystemPolicy(_ context.Context, id, text string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := policy.Parse(policy.Resource, text); err != nil {
		return err
	}
	if !m.exists(id) {
		return catalog.ErrNotFound
	}
	m.policy = map[string]string{id: text}
	return nil
}

func (m *memoryBackend) FileSystemPolicy(_ context.Context, id string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.exists(id):
		return "", catalog.ErrNotFound
	case m.policy[id] == "":
		return "", catalog.ErrNoPolicy
	}
	return m.policy[id], nil
}

func (m *memoryBackend) DeleteFileSystemPolicy(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.exists(id) {
		return catalog.ErrNotFound
	}
	delete(m.policy, id)
	return nil
}

// TestPolicyOperations puts, describes and deletes a policy, and looks at the record of it.
func TestPolicyOperations(t *testing.T) {
	s, backend, log := newServer(t)
	f, err := backend.CreateFileSystem(t.Context(), catalog.FileSystem{CreationToken: "t"})
	if err != nil {
		t.Fatal(err)
	}
	path := efsPath + "file-systems/" + f.ID + "/policy"
	shown := `{"FileSystemId":"` + f.ID + `","Policy":` + strconv.Quote(anyPolicy) + "}\n"
	for _, step := range []struct {
		method, body string
		status       int
		want         string
	}{
		{"GET", "", 404, "PolicyNotFound"},
		{"PUT", `{"Policy":` + strconv.Quote(anyPolicy) + `,"BypassPolicyLockoutSafetyCheck":true}`, 200, shown},
		{"GET", "", 200, shown},
		{"DELETE", "", 200, ""},
		{"DELETE", "", 200, ""},
		{"GET", "", 404, "PolicyNotFound"},
	} {
		w := ask(s, step.method, path, step.body)
		if w.Code != step.status || !strings.Contains(w.Body.String(), step.want) {
			t.Errorf("%s: %d %s", step.method, w.Code, w.Body)
		}
	}
	put := log.events[slices.IndexFunc(log.events, func(e audit.Event) bool { return e.Name == "PutFileSystemPolicy" })]
	if put.Parameters["fileSystemId"] != f.ID || !strings.HasPrefix(put.Parameters["policy"], `{"Statement"`) {
		t.Errorf("recorded %v", put.Parameters)
	}
}
