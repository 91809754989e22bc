package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/api/apitest"
	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/prometheus/client_golang/prometheus"
)

// memoryBackend keeps file systems in a list.
type memoryBackend struct {
	memoryIntegrity
	*apitest.Directory
	records
	mu      sync.Mutex
	list    []catalog.FileSystem
	policy  map[string]string
	fail    error
	healthy error
}

func (m *memoryBackend) CreateFileSystem(_ context.Context, f catalog.FileSystem) (catalog.FileSystem, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return catalog.FileSystem{}, m.fail
	}
	for _, known := range m.list {
		if known.CreationToken == f.CreationToken {
			return known, catalog.ErrTokenExists
		}
	}
	f.ID, f.State, f.Created = fmt.Sprintf("fs-%017x", len(m.list)+1), catalog.Available, time.UnixMilli(1700000000123)
	m.list = append(m.list, f)
	return f, nil
}

func (m *memoryBackend) DeleteFileSystem(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, f := range m.list {
		if f.ID == id {
			m.list = slices.Delete(m.list, i, i+1)
			return m.fail
		}
	}
	return catalog.ErrNotFound
}

func (m *memoryBackend) FileSystems(context.Context) ([]catalog.FileSystem, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.list), m.fail
}

func (m *memoryBackend) UsedBytes(context.Context, string) (uint64, bool) { return 6144, true }

func (m *memoryBackend) Status(context.Context) (Status, error) {
	return Status{Version: "test", Region: "local-1"}, m.fail
}

func (m *memoryBackend) Network(_ context.Context, measure time.Duration) (Network, error) {
	return Network{Restored: uint64(measure)}, nil
}

func (m *memoryBackend) Compliance(context.Context) ([]Finding, error) {
	return []Finding{{Rule: "r", Resource: "x", Status: Compliant}}, m.fail
}

func (m *memoryBackend) Healthy() error { return m.healthy }

func (m *memoryBackend) Metrics() prometheus.Gatherer { return prometheus.NewRegistry() }

type memoryLog struct {
	mu     sync.Mutex
	events []audit.Event
	err    error
}

func (m *memoryLog) Append(e audit.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.events = append(m.events, e)
	}
	return m.err
}

func newServer(t testing.TB) (*Server, *memoryBackend, *memoryLog) {
	t.Helper()
	backend, log := &memoryBackend{Directory: apitest.NewDirectory(t), records: newRecords(t)}, &memoryLog{}
	s, err := New(Options{Backend: backend, Audit: log, Region: "local-1", Clock: func() time.Time { return time.Unix(1700000001, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	return s, backend, log
}

func ask(s *Server, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

func TestCreateDescribeDelete(t *testing.T) {
	s, _, log := newServer(t)
	w := ask(s, "POST", efsPath+"file-systems", `{"CreationToken":"t","PerformanceMode":"generalPurpose","Encrypted":true,"Unknown":1,"Tags":[{"Key":"Name","Value":"home"}]}`)
	want := `{"OwnerId":"000000000000","CreationToken":"t","FileSystemId":"fs-00000000000000001",` +
		`"FileSystemArn":"arn:aws:elasticfilesystem:local-1:000000000000:file-system/fs-00000000000000001",` +
		`"CreationTime":1700000000.123,"LifeCycleState":"available","Name":"home","NumberOfMountTargets":0,` +
		`"SizeInBytes":{"Value":6144,"Timestamp":1700000001,"ValueInIA":0,"ValueInStandard":6144,"ValueInArchive":0},` +
		`"PerformanceMode":"generalPurpose","ThroughputMode":"bursting","Encrypted":true,"Tags":[{"Key":"Name","Value":"home"}],` +
		`"FileSystemProtection":{"ReplicationOverwriteProtection":"ENABLED"}}` + "\n"
	if w.Code != 201 || w.Body.String() != want || w.Header().Get("X-Amzn-Requestid") == "" {
		t.Fatalf("create: %d %s\nwant %s", w.Code, w.Body, want)
	}
	w = ask(s, "POST", efsPath+"file-systems", `{"CreationToken":"t"}`)
	if w.Code != 409 || !strings.Contains(w.Body.String(), `"ErrorCode":"FileSystemAlreadyExists"`) ||
		!strings.Contains(w.Body.String(), `"FileSystemId":"fs-00000000000000001"`) {
		t.Fatalf("same token: %d %s", w.Code, w.Body)
	}
	w = ask(s, "GET", efsPath+"file-systems?CreationToken=t", "")
	if w.Code != 200 || !strings.Contains(w.Body.String(), "fs-00000000000000001") {
		t.Fatalf("describe: %d %s", w.Code, w.Body)
	}
	for i, want := range []int{204, 404} {
		if w = ask(s, "DELETE", efsPath+"file-systems/fs-00000000000000001", ""); w.Code != want {
			t.Fatalf("delete %d: %d %s", i, w.Code, w.Body)
		}
	}
	var got []string
	for _, e := range log.events {
		got = append(got, strings.TrimSpace(e.Name+" "+e.ErrorCode))
	}
	wantLog := []string{
		"CreateFileSystem", "CreateFileSystem", "CreateFileSystem FileSystemAlreadyExists",
		"DescribeFileSystems", "DeleteFileSystem", "DeleteFileSystem", "DeleteFileSystem FileSystemNotFound",
	}
	if !slices.Equal(got, wantLog) {
		t.Errorf("recorded %q, want %q", got, wantLog)
	}
}

func TestErrorsHaveTheAPIsShape(t *testing.T) {
	s, _, _ := newServer(t)
	fs := efsPath + "file-systems"
	tests := []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", fs, ``, 400, "BadRequest"},
		{"POST", fs, `{`, 400, "BadRequest"},
		{"POST", fs, `[]`, 400, "BadRequest"},
		{"POST", fs, `{"CreationToken":5}`, 400, "BadRequest"},
		{"POST", fs, `{"CreationToken":""}`, 400, "BadRequest"},
		{"POST", fs, `{"CreationToken":"a"}{}`, 400, "BadRequest"},
		{"POST", fs, `{"CreationToken":"` + strings.Repeat("x", 65) + `"}`, 400, "BadRequest"},
		{"POST", fs, `{"CreationToken":"` + strings.Repeat("x", maxBodyBytes) + `"}`, 400, "BadRequest"},
		{"POST", fs, `{"CreationToken":"a","Encrypted":false}`, 400, "BadRequest"},
		{"POST", fs, `{"CreationToken":"a","KmsKeyId":"x"}`, 400, "ValidationException"},
		{"POST", fs, `{"CreationToken":"a","PerformanceMode":"maxIO"}`, 400, "BadRequest"},
		{"POST", fs, `{"CreationToken":"a","ThroughputMode":"provisioned"}`, 400, "BadRequest"},
		{"POST", fs, `{"CreationToken":"a","ProvisionedThroughputInMibps":1}`, 400, "BadRequest"},
		{"POST", fs, `{"CreationToken":"a","Backup":true}`, 400, "BadRequest"},
		{"POST", fs, `{"CreationToken":"a","AvailabilityZoneName":"a"}`, 400, "UnsupportedAvailabilityZone"},
		{"POST", fs, `{"CreationToken":"a","Tags":[{"Key":"aws:x","Value":""}]}`, 400, "BadRequest"},
		{"POST", fs, `{"CreationToken":"a","Tags":[{"Key":"x","Value":""},{"Key":"x","Value":""}]}`, 400, "BadRequest"},
		{"GET", fs + "?FileSystemId=fs-00000000000000009", ``, 404, "FileSystemNotFound"},
		{"GET", fs + "?FileSystemId=x", ``, 400, "BadRequest"},
		{"GET", fs + "?FileSystemId=fs-12345678", ``, 404, "FileSystemNotFound"},
		{"GET", fs + "?FileSystemId=fs-00000000000000009&CreationToken=t", ``, 400, "BadRequest"},
		{"GET", fs + "?MaxItems=0", ``, 400, "BadRequest"},
		{"GET", fs + "?Marker=x", ``, 400, "BadRequest"},
		{"DELETE", fs + "/x", ``, 400, "BadRequest"},
		{"DELETE", fs + "/fs-00000000000000009", ``, 404, "FileSystemNotFound"},
		{"PUT", fs + "/fs-00000000000000009", ``, 400, "BadRequest"},
		{"PUT", fs + "/fs-00000000000000009/policy", `{"Policy":5}`, 400, "BadRequest"},
		{"PUT", fs + "/fs-00000000000000009/policy", `{"Policy":"{}"}`, 400, "InvalidPolicyException"},
		{"PUT", fs + "/fs-00000000000000009/policy", `{"Policy":` + strconv.Quote(anyPolicy) + `}`, 404, "FileSystemNotFound"},
		{"PUT", fs + "/x/policy", `{"Policy":` + strconv.Quote(anyPolicy) + `}`, 400, "BadRequest"},
		{"GET", fs + "/fs-00000000000000009/policy", ``, 404, "FileSystemNotFound"},
		{"DELETE", fs + "/fs-00000000000000009/policy", ``, 404, "FileSystemNotFound"},
		{"POST", fs + "/fs-00000000000000009/policy", ``, 404, "UnknownOperationException"},
		{"POST", efsPath + "access-points", `{}`, 400, "BadRequest"},
		{"GET", efsPath + "nothing", ``, 404, "UnknownOperationException"},
		{"GET", "/", ``, 404, "UnknownOperationException"},
	}
	for _, test := range tests {
		w := ask(s, test.method, test.path, test.body)
		var e Error
		err := json.Unmarshal(w.Body.Bytes(), &e)
		if w.Code != test.status || err != nil || e.Code != test.code || e.Message == "" || w.Header().Get("X-Amzn-Errortype") != test.code {
			t.Errorf("%s %s %.60s: %d %s", test.method, test.path, test.body, w.Code, w.Body)
		}
	}
}

func TestBackendErrorsHaveCodes(t *testing.T) {
	s, backend, _ := newServer(t)
	for err, want := range map[error]string{
		catalog.ErrLimit:      "FileSystemLimitExceeded",
		catalog.ErrWrongState: "IncorrectFileSystemLifeCycleState",
		catalog.ErrConflict:   "TooManyRequests",
		errors.New("disk"):    "InternalServerError",
	} {
		backend.fail = fmt.Errorf("wrapped: %w", err)
		if w := ask(s, "POST", efsPath+"file-systems", `{"CreationToken":"a"}`); w.Header().Get("X-Amzn-Errortype") != want {
			t.Errorf("%v: %d %s", err, w.Code, w.Body)
		}
	}
}

func TestPages(t *testing.T) {
	s, backend, _ := newServer(t)
	for i := range 7 {
		if _, err := backend.CreateFileSystem(t.Context(), catalog.FileSystem{CreationToken: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	marker, pages := "", 0
	for {
		w := ask(s, "GET", efsPath+"file-systems?MaxItems=3&Marker="+marker, "")
		var page DescribeFileSystemsResponse
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
			t.Fatal(err)
		}
		pages++
		for _, f := range page.FileSystems {
			ids = append(ids, f.FileSystemID)
		}
		if marker = page.NextMarker; marker == "" {
			break
		}
	}
	if pages != 3 || len(ids) != 7 || !slices.IsSorted(ids) || len(slices.Compact(ids)) != 7 {
		t.Errorf("%d pages: %v", pages, ids)
	}
}

func TestNothingIsDoneWithoutRecord(t *testing.T) {
	s, backend, log := newServer(t)
	log.err = errors.New("disk full")
	if w := ask(s, "POST", efsPath+"file-systems", `{"CreationToken":"a"}`); w.Code != 500 {
		t.Errorf("create: %d %s", w.Code, w.Body)
	}
	if len(backend.list) != 0 {
		t.Error("a file system was made without a record")
	}
}

func TestHealth(t *testing.T) {
	s, backend, _ := newServer(t)
	if w := ask(s, "GET", "/healthz", ""); w.Code != 200 {
		t.Errorf("healthy: %d", w.Code)
	}
	backend.healthy = errors.New("unit u has failed")
	if w := ask(s, "GET", "/healthz", ""); w.Code != 503 || !strings.Contains(w.Body.String(), "unit u has failed") {
		t.Errorf("not healthy: %d %s", w.Code, w.Body)
	}
}

// TestSocket goes through the real socket: its mode, the peer in the record, the client, and Close.
func TestSocket(t *testing.T) {
	s, _, log := newServer(t)
	path := filepath.Join(t.TempDir(), "api.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // left by a crash
		t.Fatal(err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c := NewClient(path)
	defer c.Close()
	made, err := c.CreateFileSystem(t.Context(), CreateFileSystemRequest{CreationToken: "x"})
	if err != nil || made.LifeCycleState != "available" {
		t.Fatalf("%+v, %v", made, err)
	}
	list, err := c.FileSystems(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if status, err := c.Status(t.Context()); err != nil || status.Version != "test" {
		t.Fatalf("%+v, %v", status, err)
	}
	if findings, err := c.Compliance(t.Context()); err != nil || len(findings) != 1 || findings[0].Status != Compliant {
		t.Fatalf("%+v, %v", findings, err)
	}
	var refused *Error
	if err := c.DeleteFileSystem(t.Context(), "fs-00000000000000009"); !errors.As(err, &refused) || refused.Code != "FileSystemNotFound" {
		t.Fatalf("%v", err)
	}
	want := fmt.Sprintf("uid=%d gid=%d pid=%d", os.Getuid(), os.Getgid(), os.Getpid())
	if got := log.events[0].Identity.Principal; got != want {
		t.Errorf("recorded peer %q, want %q", got, want)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("after Close: %v", err)
	}
}

func FuzzCreateRequest(f *testing.F) {
	f.Add([]byte(`{"CreationToken":"t","Tags":[{"Key":"Name","Value":"v"}]}`))
	f.Add([]byte(`{"CreationToken":null,"Encrypted":"x"}`))
	f.Add([]byte(`{"CreationToken":"\ud800"}`))
	s, backend, _ := newServer(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, efsPath+"file-systems", bytes.NewReader(body)))
		if w.Code != 201 && w.Code != 400 && w.Code != 409 {
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
		backend.mu.Lock()
		backend.list = nil
		backend.mu.Unlock()
	})
}
