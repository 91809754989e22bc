package api

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/efs"
	"github.com/aws/aws-sdk-go-v2/service/efs/types"
)

const noFS = "fs-0123456789abcdef0"

// furnished is a client of a front door, with a file system and an access point.
func furnished(t *testing.T) (d *door, client *efs.Client, fs, point string) {
	t.Helper()
	d = newDoor(t)
	fs = addFileSystem(t, d.backend, "one")
	client = efs.NewFromConfig(d.config(t, "admin", everything))
	made, err := client.CreateAccessPoint(t.Context(), &efs.CreateAccessPointInput{FileSystemId: &fs, ClientToken: aws.String("t")})
	if err != nil {
		t.Fatal(err)
	}
	return d, client, fs, *made.AccessPointId
}

func TestUpdateFileSystem(t *testing.T) {
	d, client, fs, _ := furnished(t)
	updated, err := client.UpdateFileSystem(t.Context(), &efs.UpdateFileSystemInput{FileSystemId: &fs, ThroughputMode: types.ThroughputModeElastic})
	if err != nil || updated.ThroughputMode != types.ThroughputModeElastic || *updated.FileSystemId != fs {
		t.Fatalf("%+v, %v", updated, err)
	}
	if _, err := client.UpdateFileSystem(t.Context(), &efs.UpdateFileSystemInput{FileSystemId: &fs}); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	if got := d.backend.list[0].ThroughputMode; got != "elastic" {
		t.Errorf("on record: %q", got)
	}
	for code, in := range map[string]*efs.UpdateFileSystemInput{
		"BadRequest":         {FileSystemId: &fs, ThroughputMode: types.ThroughputModeProvisioned, ProvisionedThroughputInMibps: aws.Float64(9)},
		"FileSystemNotFound": {FileSystemId: aws.String(noFS), ThroughputMode: types.ThroughputModeBursting},
	} {
		_, err := client.UpdateFileSystem(t.Context(), in)
		wantCode(t, err, code)
	}
	_, err = client.UpdateFileSystem(t.Context(), &efs.UpdateFileSystemInput{FileSystemId: &fs, ProvisionedThroughputInMibps: aws.Float64(9)})
	wantCode(t, err, "BadRequest")
}

func TestProtection(t *testing.T) {
	_, client, fs, _ := furnished(t)
	shown := func() types.ReplicationOverwriteProtection {
		all, err := client.DescribeFileSystems(t.Context(), &efs.DescribeFileSystemsInput{FileSystemId: &fs})
		if err != nil {
			t.Fatal(err)
		}
		return all.FileSystems[0].FileSystemProtection.ReplicationOverwriteProtection
	}
	if got := shown(); got != "ENABLED" {
		t.Errorf("at first: %s", got)
	}
	changed, err := client.UpdateFileSystemProtection(t.Context(), &efs.UpdateFileSystemProtectionInput{FileSystemId: &fs, ReplicationOverwriteProtection: "DISABLED"})
	if err != nil || changed.ReplicationOverwriteProtection != "DISABLED" || shown() != "DISABLED" {
		t.Errorf("%+v, %v, %s", changed, err, shown())
	}
	_, err = client.UpdateFileSystemProtection(t.Context(), &efs.UpdateFileSystemProtectionInput{FileSystemId: &fs, ReplicationOverwriteProtection: "REPLICATING"})
	wantCode(t, err, "BadRequest")
	_, err = client.UpdateFileSystemProtection(t.Context(), &efs.UpdateFileSystemProtectionInput{FileSystemId: aws.String(noFS), ReplicationOverwriteProtection: "ENABLED"})
	wantCode(t, err, "FileSystemNotFound")
}

func TestLifecycleConfiguration(t *testing.T) {
	_, client, fs, _ := furnished(t)
	put := func(id string, policies ...types.LifecyclePolicy) error {
		if policies == nil {
			policies = []types.LifecyclePolicy{}
		}
		_, err := client.PutLifecycleConfiguration(t.Context(), &efs.PutLifecycleConfigurationInput{FileSystemId: &id, LifecyclePolicies: policies})
		return err
	}
	count := func() int {
		got, err := client.DescribeLifecycleConfiguration(t.Context(), &efs.DescribeLifecycleConfigurationInput{FileSystemId: &fs})
		if err != nil {
			t.Fatal(err)
		}
		return len(got.LifecyclePolicies)
	}
	ia, back := types.LifecyclePolicy{TransitionToIA: "AFTER_30_DAYS"}, types.LifecyclePolicy{TransitionToPrimaryStorageClass: "AFTER_1_ACCESS"}
	archive := types.LifecyclePolicy{TransitionToArchive: "AFTER_90_DAYS"}
	if n := count(); n != 0 {
		t.Errorf("%d policies at first", n)
	}
	if err := put(fs, ia, back, archive); err != nil || count() != 3 {
		t.Errorf("put: %v, %d", err, count())
	}
	for name, bad := range map[string][]types.LifecyclePolicy{
		"twice":            {ia, ia},
		"two transitions":  {{TransitionToIA: "AFTER_7_DAYS", TransitionToArchive: "AFTER_90_DAYS"}},
		"no transition":    {{}},
		"unknown time":     {{TransitionToIA: "AFTER_8_DAYS"}},
		"time for a class": {{TransitionToPrimaryStorageClass: "AFTER_7_DAYS"}},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, put(fs, bad...), "BadRequest") })
	}
	if count() != 3 {
		t.Error("a refused configuration changed the one before")
	}
	if err := put(fs); err != nil || count() != 0 {
		t.Errorf("none: %v, %d", err, count())
	}
	wantCode(t, put(noFS, ia), "FileSystemNotFound")
	_, err := client.DescribeLifecycleConfiguration(t.Context(), &efs.DescribeLifecycleConfigurationInput{FileSystemId: aws.String(noFS)})
	wantCode(t, err, "FileSystemNotFound")
}

// Backups that nobody makes are never said to be made.
func TestBackupPolicy(t *testing.T) {
	_, client, fs, _ := furnished(t)
	put := func(id string, status types.Status) error {
		_, err := client.PutBackupPolicy(t.Context(), &efs.PutBackupPolicyInput{FileSystemId: &id, BackupPolicy: &types.BackupPolicy{Status: status}})
		return err
	}
	describe := func(id string) (*efs.DescribeBackupPolicyOutput, error) {
		return client.DescribeBackupPolicy(t.Context(), &efs.DescribeBackupPolicyInput{FileSystemId: &id})
	}
	_, err := describe(fs)
	wantCode(t, err, "PolicyNotFound")
	wantCode(t, put(fs, types.StatusEnabled), "ValidationException")
	_, err = describe(fs)
	wantCode(t, err, "PolicyNotFound")
	if err := put(fs, types.StatusDisabled); err != nil {
		t.Fatal(err)
	}
	if got, err := describe(fs); err != nil || got.BackupPolicy.Status != types.StatusDisabled {
		t.Errorf("%+v, %v", got, err)
	}
	wantCode(t, put(fs, types.StatusEnabling), "BadRequest")
	for _, status := range []types.Status{types.StatusEnabled, types.StatusDisabled} {
		wantCode(t, put(noFS, status), "FileSystemNotFound")
	}
	_, err = describe(noFS)
	wantCode(t, err, "FileSystemNotFound")
}

func TestNothingIsReplicated(t *testing.T) {
	_, client, fs, _ := furnished(t)
	destinations := []types.DestinationToCreate{{Region: aws.String("elsewhere-1")}}
	all, err := client.DescribeReplicationConfigurations(t.Context(), &efs.DescribeReplicationConfigurationsInput{MaxResults: aws.Int32(5)})
	if err != nil || len(all.Replications) != 0 || all.NextToken != nil {
		t.Errorf("%+v, %v", all, err)
	}
	for id, codes := range map[string][2]string{fs: {"BadRequest", "ReplicationNotFound"}, noFS: {"FileSystemNotFound", "FileSystemNotFound"}} {
		_, err := client.CreateReplicationConfiguration(t.Context(), &efs.CreateReplicationConfigurationInput{SourceFileSystemId: &id, Destinations: destinations})
		wantCode(t, err, codes[0])
		_, err = client.DescribeReplicationConfigurations(t.Context(), &efs.DescribeReplicationConfigurationsInput{FileSystemId: &id})
		wantCode(t, err, codes[1])
		_, err = client.DeleteReplicationConfiguration(t.Context(), &efs.DeleteReplicationConfigurationInput{SourceFileSystemId: &id})
		wantCode(t, err, codes[1])
	}
	_, err = client.DescribeReplicationConfigurations(t.Context(), &efs.DescribeReplicationConfigurationsInput{NextToken: aws.String("x")})
	wantCode(t, err, "BadRequest")
}

func TestAccountPreferences(t *testing.T) {
	_, client, _, _ := furnished(t)
	got, err := client.DescribeAccountPreferences(t.Context(), &efs.DescribeAccountPreferencesInput{MaxResults: aws.Int32(1)})
	if err != nil || got.ResourceIdPreference.ResourceIdType != types.ResourceIdTypeLongId || len(got.ResourceIdPreference.Resources) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	put, err := client.PutAccountPreferences(t.Context(), &efs.PutAccountPreferencesInput{ResourceIdType: types.ResourceIdTypeLongId})
	if err != nil || put.ResourceIdPreference.ResourceIdType != types.ResourceIdTypeLongId {
		t.Errorf("%+v, %v", put, err)
	}
	_, err = client.PutAccountPreferences(t.Context(), &efs.PutAccountPreferencesInput{ResourceIdType: types.ResourceIdTypeShortId})
	wantCode(t, err, "BadRequest")
}

func TestTagsOfResources(t *testing.T) {
	_, client, fs, point := furnished(t)
	list := func(id string) string {
		var all []string
		pages := efs.NewListTagsForResourcePaginator(client, &efs.ListTagsForResourceInput{ResourceId: &id, MaxResults: aws.Int32(1)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, tag := range page.Tags {
				all = append(all, *tag.Key+"="+*tag.Value)
			}
		}
		return strings.Join(all, " ")
	}
	tags := []types.Tag{{Key: aws.String("Name"), Value: aws.String("n")}, {Key: aws.String("a b/ü&="), Value: aws.String("")}, {Key: aws.String("z"), Value: aws.String("1")}}
	for id, other := range map[string]string{fs: FileSystemARN("local-1", fs), point: AccessPointARN("local-1", point)} {
		if _, err := client.TagResource(t.Context(), &efs.TagResourceInput{ResourceId: &id, Tags: tags}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.TagResource(t.Context(), &efs.TagResourceInput{ResourceId: &other, Tags: []types.Tag{{Key: aws.String("z"), Value: aws.String("2")}}}); err != nil {
			t.Fatal(err)
		}
		if got, want := list(other), "Name=n a b/ü&== z=2"; got != want {
			t.Errorf("tags of %s: %q, want %q", other, got, want)
		}
		if _, err := client.UntagResource(t.Context(), &efs.UntagResourceInput{ResourceId: &other, TagKeys: []string{"z", "a b/ü&=", "none"}}); err != nil {
			t.Fatal(err)
		}
		if got := list(id); got != "Name=n" {
			t.Errorf("what is left of %s: %q", id, got)
		}
	}
	points, err := client.DescribeAccessPoints(t.Context(), &efs.DescribeAccessPointsInput{AccessPointId: &point})
	if err != nil || *points.AccessPoints[0].Name != "n" {
		t.Errorf("%+v, %v", points, err)
	}
}

func TestTagsAreRefused(t *testing.T) {
	d, client, fs, _ := furnished(t)
	tag := func(key string) []types.Tag { return []types.Tag{{Key: &key, Value: aws.String("v")}} }
	many := make([]types.Tag, maxTags)
	for i := range many {
		many[i] = tag(fmt.Sprint(i))[0]
	}
	put := func(id string, tags []types.Tag) error {
		_, err := client.TagResource(t.Context(), &efs.TagResourceInput{ResourceId: &id, Tags: tags})
		return err
	}
	wantCode(t, put(noFS, tag("a")), "FileSystemNotFound")
	wantCode(t, put("fsap-0123456789abcdef0", tag("a")), "AccessPointNotFound")
	wantCode(t, put("eni-1", tag("a")), "BadRequest")
	wantCode(t, put(fs, tag("aWs:a")), "BadRequest")
	wantCode(t, put(fs, []types.Tag{}), "BadRequest")
	if err := put(fs, many); err != nil {
		t.Error(err)
	}
	wantCode(t, put(fs, tag("one more")), "BadRequest")
	if n := len(d.backend.list[0].Tags); n != maxTags {
		t.Errorf("%d tags", n)
	}
	_, err := client.UntagResource(t.Context(), &efs.UntagResourceInput{ResourceId: &fs, TagKeys: []string{}})
	wantCode(t, err, "BadRequest")
	_, err = client.ListTagsForResource(t.Context(), &efs.ListTagsForResourceInput{ResourceId: aws.String(noFS)})
	wantCode(t, err, "FileSystemNotFound")
	_, err = client.ListTagsForResource(t.Context(), &efs.ListTagsForResourceInput{ResourceId: &fs, MaxResults: aws.Int32(0)})
	wantCode(t, err, "BadRequest")
}

// The operations that EFS keeps for old programs, with the path of the aws CLI, which ends in a slash.
func TestOlderTagOperations(t *testing.T) {
	s, backend, _ := newServer(t)
	fs := addFileSystem(t, backend, "one")
	for _, path := range []string{"create-tags/" + fs, "create-tags/" + noFS} {
		status := http.StatusNoContent
		if strings.HasSuffix(path, noFS) {
			status = http.StatusNotFound
		}
		if w := ask(s, "POST", efsPath+path, `{"Tags":[{"Key":"b","Value":"2"},{"Key":"a","Value":"1"}]}`); w.Code != status {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	first := reply[DescribeTagsResponse](t, s, "GET", efsPath+"tags/"+fs+"/?MaxItems=1", "", 200)
	second := reply[DescribeTagsResponse](t, s, "GET", efsPath+"tags/"+fs+"?MaxItems=1&Marker="+first.NextMarker, "", 200)
	if first.Tags[0].Key != "a" || second.Tags[0].Key != "b" || second.Marker != "a" || second.NextMarker != "" {
		t.Errorf("%+v, %+v", first, second)
	}
	reply[struct{}](t, s, "POST", efsPath+"delete-tags/"+fs, `{"TagKeys":["a"]}`, 204)
	if all := reply[DescribeTagsResponse](t, s, "GET", efsPath+"tags/"+fs, "", 200); len(all.Tags) != 1 {
		t.Errorf("%+v", all)
	}
	for _, body := range []string{`{}`, `{"TagKeys":[""]}`, `{"TagKeys":"a"}`} {
		reply[Error](t, s, "POST", efsPath+"delete-tags/"+fs, body, 400)
	}
}

// Whoever may change tags of one file system may not change those of another, nor of its access points.
func TestTagsAreAskedFor(t *testing.T) {
	d, _, fs, point := furnished(t)
	other := addFileSystem(t, d.backend, "two")
	client := efs.NewFromConfig(d.config(t, "tagger", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
		"Action":"elasticfilesystem:TagResource","Resource":"`+FileSystemARN("local-1", fs)+`"}]}`))
	tags := []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}
	if _, err := client.TagResource(t.Context(), &efs.TagResourceInput{ResourceId: &fs, Tags: tags}); err != nil {
		t.Error(err)
	}
	for _, id := range []string{other, point} {
		_, err := client.TagResource(t.Context(), &efs.TagResourceInput{ResourceId: &id, Tags: tags})
		wantCode(t, err, "AccessDeniedException")
	}
	_, err := client.UntagResource(t.Context(), &efs.UntagResourceInput{ResourceId: &fs, TagKeys: []string{"a"}})
	wantCode(t, err, "AccessDeniedException")
}

// Each operation of the SDK has a route, and each route is one's.
func TestAllOperationsHaveARoute(t *testing.T) {
	var routes, operations []string
	for _, route := range efsRoutes {
		routes = append(routes, route.op.name)
	}
	for method := range reflect.TypeFor[*efs.Client]().Methods() {
		if method.Name != "Options" {
			operations = append(operations, method.Name)
		}
	}
	slices.Sort(routes)
	slices.Sort(operations)
	if !slices.Equal(routes, operations) || len(routes) != 31 {
		t.Errorf("routes of %v, operations are %v", routes, operations)
	}
}
