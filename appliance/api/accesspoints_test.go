package api

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

const pointsPath = efsPath + "access-points"

func TestLifeOfAnAccessPoint(t *testing.T) {
	s, backend, log := newServer(t)
	fs := addFileSystem(t, backend, "a")
	body := fmt.Sprintf(`{"ClientToken":"t","FileSystemId":%q,"PosixUser":{"Uid":0,"Gid":5,"SecondaryGids":[6]},
		"RootDirectory":{"Path":"/a/b","CreationInfo":{"OwnerUid":7,"OwnerGid":8,"Permissions":"0755"}},"Tags":[{"Key":"Name","Value":"n"}]}`, fs)
	w := ask(s, "POST", pointsPath, body)
	_, rest, _ := strings.Cut(w.Body.String(), `"AccessPointId":"`)
	id, _, _ := strings.Cut(rest, `"`)
	want := fmt.Sprintf(`{"ClientToken":"t","Name":"n","Tags":[{"Key":"Name","Value":"n"}],"AccessPointId":%q,`+
		`"AccessPointArn":"arn:aws:elasticfilesystem:local-1:000000000000:access-point/%s","FileSystemId":%q,`+
		`"PosixUser":{"Uid":0,"Gid":5,"SecondaryGids":[6]},`+
		`"RootDirectory":{"Path":"/a/b","CreationInfo":{"OwnerUid":7,"OwnerGid":8,"Permissions":"755"}},`+
		`"OwnerId":"000000000000","LifeCycleState":"available"}`+"\n", id, id, fs)
	if w.Code != 200 || w.Body.String() != want {
		t.Fatalf("%d %s\nwant %s", w.Code, w.Body, want)
	}
	if e := ask(s, "POST", pointsPath, body); e.Code != 409 || e.Header().Get("X-Amzn-Errortype") != "AccessPointAlreadyExists" ||
		!strings.Contains(e.Body.String(), `"AccessPointId":"`+id) {
		t.Errorf("again: %d %s", e.Code, e.Body)
	}
	for _, by := range []string{
		"AccessPointId=" + id, "FileSystemId=" + fs,
		"AccessPointId=" + url.QueryEscape(AccessPointARN("local-1", id)), "FileSystemId=" + url.QueryEscape(FileSystemARN("local-1", fs)),
	} {
		got := reply[DescribeAccessPointsResponse](t, s, "GET", pointsPath+"?"+by, "", 200)
		if len(got.AccessPoints) != 1 || got.AccessPoints[0].AccessPointID != id {
			t.Errorf("by %s: %+v", by, got)
		}
	}
	if got := reply[DescribeMountTargetsResponse](t, s, "GET", efsPath+"mount-targets?AccessPointId="+id, "", 200); len(got.MountTargets) != 0 {
		t.Errorf("mount targets %+v", got)
	}
	reply[struct{}](t, s, "DELETE", pointsPath+"/"+id, "", 204)
	for _, call := range [][2]string{{"DELETE", "/" + id}, {"GET", "?AccessPointId=" + id}} {
		if e := ask(s, call[0], pointsPath+call[1], ""); e.Code != 404 || e.Header().Get("X-Amzn-Errortype") != "AccessPointNotFound" {
			t.Errorf("%s after its end: %d %s", call[0], e.Code, e.Body)
		}
	}
	if log.events[0].Name != "CreateAccessPoint" || log.events[0].Parameters["fileSystemId"] != fs {
		t.Errorf("recorded %+v", log.events[0])
	}
}

func TestPagesOfAccessPoints(t *testing.T) {
	s, backend, _ := newServer(t)
	fs := addFileSystem(t, backend, "a")
	made := map[string]bool{}
	for i := range 5 {
		d := reply[AccessPointDescription](t, s, "POST", pointsPath, fmt.Sprintf(`{"ClientToken":"%d","FileSystemId":%q}`, i, fs), 200)
		made[d.AccessPointID] = true
	}
	query, pages := "?MaxResults=2&FileSystemId="+fs, 0
	for next := ""; ; pages++ {
		page := reply[DescribeAccessPointsResponse](t, s, "GET", pointsPath+query+next, "", 200)
		for _, p := range page.AccessPoints {
			if !made[p.AccessPointID] {
				t.Errorf("%s twice, or not ours", p.AccessPointID)
			}
			delete(made, p.AccessPointID)
		}
		if page.NextToken == "" {
			break
		}
		next = "&NextToken=" + page.NextToken
	}
	if len(made) != 0 || pages != 2 {
		t.Errorf("%d not listed, %d pages before the last", len(made), pages)
	}
}

// Without a file system, the access points of all are listed, in one order.
func TestAllAccessPoints(t *testing.T) {
	s, backend, _ := newServer(t)
	for i := range 6 {
		fs := addFileSystem(t, backend, fmt.Sprint(i))
		reply[AccessPointDescription](t, s, "POST", pointsPath, fmt.Sprintf(`{"ClientToken":"%d","FileSystemId":%q}`, i, fs), 200)
	}
	first := reply[DescribeAccessPointsResponse](t, s, "GET", pointsPath+"?MaxResults=4", "", 200)
	rest := reply[DescribeAccessPointsResponse](t, s, "GET", pointsPath+"?MaxResults=4&NextToken="+first.NextToken, "", 200)
	var ids []string
	for _, p := range append(first.AccessPoints, rest.AccessPoints...) {
		ids = append(ids, p.AccessPointID)
	}
	if len(ids) != 6 || !slices.IsSorted(ids) || rest.NextToken != "" {
		t.Errorf("%v, then %q", ids, rest.NextToken)
	}
}

func TestBadAccessPoints(t *testing.T) {
	s, backend, _ := newServer(t)
	fs := addFileSystem(t, backend, "a")
	body := func(rest string) string { return fmt.Sprintf(`{"ClientToken":"t","FileSystemId":%q%s}`, fs, rest) }
	root := func(path string) string { return body(fmt.Sprintf(`,"RootDirectory":{"Path":%q}`, path)) }
	for _, bad := range []string{
		`{"FileSystemId":"` + fs + `"}`, `{"ClientToken":"t","FileSystemId":"fs-1"}`, fmt.Sprintf(`{"ClientToken":%q,"FileSystemId":%q}`, strings.Repeat("t", 65), fs),
		body(`,"PosixUser":{"Uid":1}`), body(`,"PosixUser":{"Uid":-1,"Gid":1}`), body(`,"PosixUser":{"Uid":4294967296,"Gid":1}`),
		body(`,"PosixUser":{"Uid":1,"Gid":1,"SecondaryGids":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}`),
		body(`,"RootDirectory":{"Path":"/a","CreationInfo":{"OwnerUid":1,"Permissions":"755"}}`),
		body(`,"RootDirectory":{"Path":"/a","CreationInfo":{"OwnerUid":1,"OwnerGid":1,"Permissions":"789"}}`),
		body(`,"RootDirectory":{"Path":"/a","CreationInfo":{"OwnerUid":1,"OwnerGid":1,"Permissions":"77777"}}`),
		root("a"), root("/a/b/c/d/e"), root("//a"), root("/a/"), root("/.."), root("/a/.b"), root("/a*"), root("/" + strings.Repeat("a", 100)),
		body(`,"Tags":[{"Key":"aws:x","Value":""}]`),
	} {
		if w := ask(s, "POST", pointsPath, bad); w.Code != 400 || w.Header().Get("X-Amzn-Errortype") != "BadRequest" {
			t.Errorf("%s: %d %s", bad, w.Code, w.Body)
		}
	}
	for _, good := range []string{root("/"), root("/a/b/c/d"), root("/with space"), body("")} {
		d := reply[AccessPointDescription](t, s, "POST", pointsPath, good, 200)
		reply[struct{}](t, s, "DELETE", pointsPath+"/"+d.AccessPointID, "", 204)
	}
	for query, status := range map[string]int{
		"": 200, "?AccessPointId=fsap-1": 400, "?AccessPointId=fsap-12345678": 404, "?FileSystemId=x": 400, "?FileSystemId=" + fs + "&AccessPointId=fsap-00000000000000001": 400,
		"?FileSystemId=" + fs + "&NextToken=1": 400, "?FileSystemId=" + fs + "&MaxResults=0": 400,
		"?AccessPointId=fsap-00000000000000001": 404,
	} {
		if w := ask(s, "GET", pointsPath+query, ""); w.Code != status {
			t.Errorf("GET %s: %d %s", query, w.Code, w.Body)
		}
	}
}
