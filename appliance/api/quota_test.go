package api

import (
	"slices"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
)

// TestQuotaOperation sets quotas, and looks at the record of it.
func TestQuotaOperation(t *testing.T) {
	s, backend, log := newServer(t)
	f, err := backend.CreateFileSystem(t.Context(), catalog.FileSystem{CreationToken: "t"})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		method, path, body string
		status             int
		want               string
		quota              uint64
	}{
		{"PUT", f.ID + "/quota", `{"quotaBytes":4096}`, 200, `{"quotaBytes":4096}`, 4096},
		{"PUT", f.ID + "/quota", `{"quotaBytes":-1}`, 400, "", 4096},
		{"PUT", f.ID + "/quota", `nothing`, 400, "", 4096},
		{"PUT", "x/quota", `{"quotaBytes":1}`, 400, "not a file system id", 4096},
		{"PUT", "fs-00000000000000099/quota", `{"quotaBytes":1}`, 404, "FileSystemNotFound", 4096},
		{"DELETE", f.ID + "/quota", "", 404, "", 4096},
		{"PUT", f.ID + "/quota", `{"quotaBytes":0}`, 200, `{"quotaBytes":0}`, 0},
	} {
		w := ask(s, step.method, ownPath+"file-systems/"+step.path, step.body)
		if w.Code != step.status || !strings.Contains(w.Body.String(), step.want) {
			t.Errorf("%s %s: %d %s", step.method, step.path, w.Code, w.Body)
		}
		if list, err := backend.FileSystems(t.Context()); err != nil || list[0].QuotaBytes != step.quota {
			t.Errorf("%s %s: quota %d, %v", step.method, step.path, list[0].QuotaBytes, err)
		}
	}
	set := log.events[slices.IndexFunc(log.events, func(e audit.Event) bool { return e.Name == "SetFileSystemQuota" })]
	if set.Parameters["fileSystemId"] != f.ID {
		t.Errorf("recorded %v", set.Parameters)
	}
}
