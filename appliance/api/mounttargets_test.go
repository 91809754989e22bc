package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// records is the part of a Backend that keeps networks, over a catalog in memory.
type records struct{ *catalog.Catalog }

func newRecords(t testing.TB) records {
	t.Helper()
	store, err := catalog.OpenLocal(catalog.LocalOptions{FS: vfs.NewMem(), Dir: "catalog"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return records{catalog.New(store)}
}

func (r records) NetworkRecords(ctx context.Context) (catalog.Network, error) {
	return r.Catalog.Network(ctx)
}

func (r records) MountTargetState(*catalog.MountTarget) string { return MountTargetAvailable }

// addFileSystem puts one where both the list and the catalog have it.
func addFileSystem(t testing.TB, b *memoryBackend, token string) string {
	t.Helper()
	f, err := b.CreateFileSystem(t.Context(), catalog.FileSystem{CreationToken: token})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.records.Adopt(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	return f.ID
}

// reply asks and decodes an answer that has to have the status.
func reply[T any](t *testing.T, s *Server, method, path, body string, status int) (into T) {
	t.Helper()
	w := ask(s, method, path, body)
	if w.Code != status {
		t.Fatalf("%s %s %s: %d %s", method, path, body, w.Code, w.Body)
	}
	if status != http.StatusNoContent {
		if err := json.Unmarshal(w.Body.Bytes(), &into); err != nil {
			t.Fatal(err)
		}
	}
	return into
}

func TestLifeOfAMountTarget(t *testing.T) {
	s, backend, log := newServer(t)
	fs := addFileSystem(t, backend, "a")
	subnet := reply[Subnet](t, s, "POST", ownPath+"subnets", `{"interface":"eth1","prefix":"10.0.0.0/24","gateway":"10.0.0.1","mtu":9000}`, 201)
	group := reply[SecurityGroup](t, s, "POST", ownPath+"security-groups", `{"name":"clients"}`, 201)
	rule := reply[GroupRule](t, s, "POST", ownPath+"security-groups/"+group.ID+"/rules", `{"lowPort":2049,"highPort":2049,"sources":["10.0.0.0/8","fd00::/8"]}`, 201)

	targets := efsPath + "mount-targets"
	body := fmt.Sprintf(`{"FileSystemId":%q,"SubnetId":%q,"IpAddress":"10.0.0.9","SecurityGroups":[%q]}`, fs, subnet.ID, group.ID)
	w := ask(s, "POST", targets, body)
	var m MountTargetDescription
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	hex := strings.TrimPrefix(m.MountTargetID, "fsmt-")
	want := fmt.Sprintf(`{"OwnerId":"000000000000","MountTargetId":"fsmt-%s","FileSystemId":%q,"SubnetId":%q,"LifeCycleState":"available","IpAddress":"10.0.0.9","NetworkInterfaceId":"eni-%s"}`+"\n", hex, fs, subnet.ID, hex)
	if w.Body.String() != want {
		t.Errorf("created %s, want %s", w.Body, want)
	}
	if e := ask(s, "POST", targets, body); e.Code != 409 || e.Header().Get("X-Amzn-Errortype") != "MountTargetConflict" {
		t.Errorf("again: %d %s", e.Code, e.Body)
	}
	page := reply[DescribeMountTargetsResponse](t, s, "GET", targets+"?FileSystemId="+fs, "", 200)
	if len(page.MountTargets) != 1 || page.MountTargets[0] != m {
		t.Errorf("described %+v", page)
	}
	if all := reply[DescribeFileSystemsResponse](t, s, "GET", efsPath+"file-systems", "", 200); all.FileSystems[0].NumberOfMountTargets != 1 {
		t.Errorf("file system %+v", all.FileSystems[0])
	}
	other := reply[SecurityGroup](t, s, "POST", ownPath+"security-groups", `{"name":"others"}`, 201)
	groupsPath := targets + "/" + m.MountTargetID + "/security-groups"
	reply[struct{}](t, s, "PUT", groupsPath, fmt.Sprintf(`{"SecurityGroups":[%q]}`, other.ID), 204)
	if g := reply[MountTargetSecurityGroups](t, s, "GET", groupsPath, "", 200); !slices.Equal(g.SecurityGroups, []string{other.ID}) {
		t.Errorf("groups %v", g)
	}
	list := reply[[]SecurityGroup](t, s, "GET", ownPath+"security-groups", "", 200)
	if i := slices.IndexFunc(list, func(g SecurityGroup) bool { return g.ID == group.ID }); i < 0 || len(list[i].Rules) != 1 || list[i].Rules[0].ID != rule.ID {
		t.Errorf("groups %+v", list)
	}
	if list := reply[[]Subnet](t, s, "GET", ownPath+"subnets", "", 200); len(list) != 1 || list[0] != subnet {
		t.Errorf("subnets %+v", list)
	}
	reply[struct{}](t, s, "DELETE", ownPath+"security-groups/"+group.ID+"/rules/"+rule.ID, "", 204)
	reply[struct{}](t, s, "DELETE", ownPath+"security-groups/"+group.ID, "", 204)
	reply[Error](t, s, "DELETE", ownPath+"subnets/"+subnet.ID, "", 409)
	reply[struct{}](t, s, "DELETE", targets+"/"+m.MountTargetID, "", 204)
	reply[struct{}](t, s, "DELETE", ownPath+"subnets/"+subnet.ID, "", 204)
	last := log.events[len(log.events)-1]
	if last.Source != "nfseal" || last.Name != "DeleteSubnet" || last.Parameters["subnet"] != subnet.ID {
		t.Errorf("recorded %+v", last)
	}
}

func TestDualStackMountTargets(t *testing.T) {
	s, backend, _ := newServer(t)
	subnet := reply[Subnet](t, s, "POST", ownPath+"subnets",
		`{"interface":"eth1","prefix":"10.0.0.0/24","gateway":"10.0.0.1","prefix6":"fd00::/64","gateway6":"fe80::1"}`, 201)
	if list := reply[[]Subnet](t, s, "GET", ownPath+"subnets", "", 200); len(list) != 1 || list[0] != subnet || list[0].Prefix6 != "fd00::/64" {
		t.Errorf("subnets %+v", list)
	}
	for i, test := range []struct{ ask, want4, want6 string }{
		{``, "10.0.0.4", ""},
		{`,"IpAddressType":"IPV4_ONLY"`, "10.0.0.5", ""},
		{`,"IpAddressType":"IPV6_ONLY"`, "", "fd00::4"},
		{`,"Ipv6Address":"fd00::9"`, "", "fd00::9"},
		{`,"IpAddressType":"DUAL_STACK"`, "10.0.0.6", "fd00::5"},
		{`,"IpAddressType":"DUAL_STACK","IpAddress":"10.0.0.20"`, "10.0.0.20", "fd00::6"},
		{`,"IpAddressType":"DUAL_STACK","IpAddress":"10.0.0.21","Ipv6Address":"fd00::21"`, "10.0.0.21", "fd00::21"},
	} {
		fs := addFileSystem(t, backend, fmt.Sprint(i))
		body := fmt.Sprintf(`{"FileSystemId":%q,"SubnetId":%q%s}`, fs, subnet.ID, test.ask)
		m := reply[MountTargetDescription](t, s, "POST", efsPath+"mount-targets", body, 200)
		if m.IPAddress != test.want4 || m.IPv6Address != test.want6 {
			t.Errorf("%s: %s and %s", test.ask, m.IPAddress, m.IPv6Address)
		}
		page := reply[DescribeMountTargetsResponse](t, s, "GET", efsPath+"mount-targets?FileSystemId="+fs, "", 200)
		if len(page.MountTargets) != 1 || page.MountTargets[0] != m {
			t.Errorf("described %+v", page)
		}
	}
}

func TestMountTargetErrors(t *testing.T) {
	s, backend, _ := newServer(t)
	fs := addFileSystem(t, backend, "a")
	subnet := reply[Subnet](t, s, "POST", ownPath+"subnets", `{"interface":"eth1","prefix":"10.0.0.0/29"}`, 201)
	targets, none := efsPath+"mount-targets", "00000000000000000"
	create := func(fs, subnet, rest string) string {
		return fmt.Sprintf(`{"FileSystemId":%q,"SubnetId":%q%s}`, fs, subnet, rest)
	}
	six := `,"SecurityGroups":["sg-` + strings.Repeat(none+`","sg-`, 5) + none + `"]`
	for _, test := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", targets, create("fs-"+none, subnet.ID, ""), 404, "FileSystemNotFound"},
		{"POST", targets, create("x", subnet.ID, ""), 400, "BadRequest"},
		{"POST", targets, create(fs, "x", ""), 400, "BadRequest"},
		{"POST", targets, create(fs, "subnet-"+none, ""), 400, "SubnetNotFound"},
		{"POST", targets, create(fs, subnet.ID, `,"SecurityGroups":["sg-`+none+`"]`), 400, "SecurityGroupNotFound"},
		{"POST", targets, create(fs, subnet.ID, `,"SecurityGroups":["x"]`), 400, "BadRequest"},
		{"POST", targets, create(fs, subnet.ID, six), 400, "SecurityGroupLimitExceeded"},
		{"POST", targets, create(fs, subnet.ID, `,"IpAddress":"10.9.0.1"`), 400, "BadRequest"},
		{"POST", targets, create(fs, subnet.ID, `,"IpAddress":"fd00::1"`), 400, "BadRequest"},
		{"POST", targets, create(fs, subnet.ID, `,"Ipv6Address":"10.0.0.5"`), 400, "BadRequest"},
		{"POST", targets, create(fs, subnet.ID, `,"IpAddressType":"DUAL_STACK"`), 400, "BadRequest"}, // the subnet has no IPv6
		{"POST", targets, create(fs, subnet.ID, `,"IpAddressType":"IPV6_ONLY"`), 400, "BadRequest"},
		{"POST", targets, create(fs, subnet.ID, `,"IpAddressType":"BOTH"`), 400, "BadRequest"},
		{"POST", targets, create(fs, subnet.ID, `,"IpAddress":"10.0.0.5","Ipv6Address":"fd00::1"`), 400, "BadRequest"},
		{"POST", targets, create(fs, subnet.ID, `,"IpAddress":"0.0.0.0"`), 400, "BadRequest"},
		{"POST", targets, `{`, 400, "BadRequest"},
		{"GET", targets, ``, 400, "BadRequest"},
		{"GET", targets + "?AccessPointId=x", ``, 400, "BadRequest"},
		{"GET", targets + "?MountTargetId=fsmt-" + none, ``, 404, "MountTargetNotFound"},
		{"GET", targets + "?FileSystemId=fs-" + none, ``, 404, "FileSystemNotFound"},
		{"GET", targets + "?MountTargetId=x", ``, 400, "BadRequest"},
		{"DELETE", targets + "/fsmt-" + none, ``, 404, "MountTargetNotFound"},
		{"DELETE", targets + "/x", ``, 400, "BadRequest"},
		{"GET", targets + "/fsmt-" + none + "/security-groups", ``, 404, "MountTargetNotFound"},
		{"PUT", targets + "/fsmt-" + none + "/security-groups", `{"SecurityGroups":[]}`, 404, "MountTargetNotFound"},
		{"PUT", targets + "/fsmt-" + none + "/security-groups", `{"SecurityGroups":["x"]}`, 400, "BadRequest"},
		{"PATCH", targets, ``, 404, "UnknownOperationException"},
		{"POST", ownPath + "subnets", `{"interface":"eth1","prefix":"x"}`, 400, "BadRequest"},
		{"POST", ownPath + "subnets", `{"interface":"eth1","prefix":"10.1.0.0/24","gateway":"x"}`, 400, "BadRequest"},
		{"POST", ownPath + "subnets", `{"interface":"","prefix":"10.1.0.0/24"}`, 400, "BadRequest"},
		{"POST", ownPath + "subnets", `{"interface":"eth1","prefix":"10.1.0.0/24","gateway6":"fd00::1"}`, 400, "BadRequest"},
		{"DELETE", ownPath + "subnets/subnet-" + none, ``, 400, "SubnetNotFound"},
		{"DELETE", ownPath + "subnets/x", ``, 400, "BadRequest"},
		{"POST", ownPath + "security-groups", `{"name":""}`, 400, "BadRequest"},
		{"POST", ownPath + "security-groups", `{"name":"a","rules":[{}]}`, 400, "BadRequest"},
		{"POST", ownPath + "security-groups/sg-" + none + "/rules", `{"sources":["10.0.0.0/8"]}`, 400, "SecurityGroupNotFound"},
		{"POST", ownPath + "security-groups/sg-" + none + "/rules", `{"sources":["10.0.0.1/8"]}`, 400, "BadRequest"},
		{"POST", ownPath + "security-groups/sg-" + none + "/rules", `{"lowPort":70000}`, 400, "BadRequest"},
		{"DELETE", ownPath + "security-groups/sg-" + none + "/rules/sgr-" + none, ``, 400, "SecurityGroupNotFound"},
		{"DELETE", ownPath + "security-groups/sg-" + none + "/rules/x", ``, 400, "BadRequest"},
		{"PUT", ownPath + "security-groups", ``, 404, "UnknownOperationException"},
		{"GET", ownPath + "nothing", ``, 404, "UnknownOperationException"},
	} {
		w := ask(s, test.method, test.path, test.body)
		if w.Code != test.status || w.Header().Get("X-Amzn-Errortype") != test.code {
			t.Errorf("%s %s %.90s: %d %s", test.method, test.path, test.body, w.Code, w.Body)
		}
	}
}

func TestPagesOfMountTargets(t *testing.T) {
	s, backend, _ := newServer(t)
	fs := addFileSystem(t, backend, "a")
	for i := range 5 {
		subnet := reply[Subnet](t, s, "POST", ownPath+"subnets", fmt.Sprintf(`{"interface":"eth1","prefix":"10.0.%d.0/24"}`, i), 201)
		reply[MountTargetDescription](t, s, "POST", efsPath+"mount-targets", fmt.Sprintf(`{"FileSystemId":%q,"SubnetId":%q}`, fs, subnet.ID), 200)
	}
	var ids []string
	marker := ""
	for {
		page := reply[DescribeMountTargetsResponse](t, s, "GET", efsPath+"mount-targets?MaxItems=2&FileSystemId="+fs+"&Marker="+marker, "", 200)
		for _, m := range page.MountTargets {
			ids = append(ids, m.MountTargetID)
		}
		if marker = page.NextMarker; marker == "" {
			break
		}
	}
	if len(ids) != 5 || !slices.IsSorted(ids) || len(slices.Compact(ids)) != 5 {
		t.Errorf("%v", ids)
	}
}

func FuzzMountTargetRequest(f *testing.F) {
	f.Add([]byte(`{"FileSystemId":"fs-00000000000000001","SubnetId":"subnet-00000000000000001","IpAddress":"10.0.0.1"}`))
	f.Add([]byte(`{"name":"a","sources":["10.0.0.0/8"],"interface":"eth0","prefix":"fd00::/64"}`))
	s, _, _ := newServer(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{efsPath + "mount-targets", ownPath + "subnets", ownPath + "security-groups", ownPath + "security-groups/sg-00000000000000001/rules"} {
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(body))))
			if w.Code >= 500 {
				t.Fatalf("%s %q: %d %s", path, body, w.Code, w.Body)
			}
		}
	})
}
