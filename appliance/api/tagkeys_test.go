package api

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/efs"
	"github.com/aws/aws-sdk-go-v2/service/efs/types"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

// allowed fails the test unless a policy's answer to a call is the wanted one.
func allowed(t *testing.T, what string, err error, want bool) {
	t.Helper()
	var known smithy.APIError
	denied := errors.As(err, &known) && known.ErrorCode() == "AccessDeniedException"
	if denied == want || want && err != nil {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestTagsOfEFSInPolicies(t *testing.T) {
	d := newDoor(t)
	admin := efs.NewFromConfig(d.config(t, "admin", everything))
	make := func(c *efs.Client, token string, tags ...string) (*efs.CreateFileSystemOutput, error) {
		in := &efs.CreateFileSystemInput{CreationToken: &token}
		for i := 0; i < len(tags); i += 2 {
			in.Tags = append(in.Tags, types.Tag{Key: &tags[i], Value: &tags[i+1]})
		}
		return c.CreateFileSystem(t.Context(), in)
	}
	blues, err := make(admin, "blue", "Team", "blue")
	if err != nil {
		t.Fatal(err)
	}
	reds, err := make(admin, "red", "Team", "red")
	if err != nil {
		t.Fatal(err)
	}
	bob := efs.NewFromConfig(d.config(t, "bob", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["elasticfilesystem:CreateFileSystem","elasticfilesystem:TagResource","elasticfilesystem:UpdateFileSystem"],"Resource":"*",
			"Condition":{"StringEquals":{"aws:RequestTag/team":"blue"},"ForAllValues:StringEquals":{"aws:TagKeys":["Team","Name"]}}},
		{"Effect":"Allow","Action":["elasticfilesystem:UntagResource","elasticfilesystem:DeleteTags"],"Resource":"*",
			"Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":"Name"},"StringEquals":{"aws:ResourceTag/Team":"blue"}}},
		{"Effect":"Allow","Action":"elasticfilesystem:Describe*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/Team":"blue"}}}]}`))
	for _, test := range []struct {
		what string
		do   func() error
		want bool
	}{
		{"make with the tag", func() error { _, err := make(bob, "1", "team", "blue"); return err }, false}, // its key is no Team
		{"make with the tag as wanted", func() error { _, err := make(bob, "2", "Team", "blue", "Name", "n"); return err }, true},
		{"make with another", func() error { _, err := make(bob, "3", "Team", "red"); return err }, false},
		{"make with one more", func() error { _, err := make(bob, "4", "Team", "blue", "Cost", "1"); return err }, false},
		{"make without", func() error { _, err := make(bob, "5"); return err }, false},
		{"tag", func() error {
			_, err := bob.TagResource(t.Context(), &efs.TagResourceInput{ResourceId: reds.FileSystemId, Tags: []types.Tag{{Key: aws.String("Team"), Value: aws.String("blue")}}})
			return err
		}, true},
		{"tag back", func() error {
			_, err := admin.TagResource(t.Context(), &efs.TagResourceInput{ResourceId: reds.FileSystemId, Tags: []types.Tag{{Key: aws.String("Team"), Value: aws.String("red")}}})
			return err
		}, true},
		{"untag what is blue", func() error {
			_, err := bob.UntagResource(t.Context(), &efs.UntagResourceInput{ResourceId: blues.FileSystemId, TagKeys: []string{"Name"}})
			return err
		}, true},
		{"untag another key", func() error {
			_, err := bob.UntagResource(t.Context(), &efs.UntagResourceInput{ResourceId: blues.FileSystemId, TagKeys: []string{"Name", "Team"}})
			return err
		}, false},
		{"untag what is red", func() error {
			_, err := bob.UntagResource(t.Context(), &efs.UntagResourceInput{ResourceId: reds.FileSystemId, TagKeys: []string{"Name"}})
			return err
		}, false},
		{"describe what is blue", func() error {
			_, err := bob.DescribeFileSystems(t.Context(), &efs.DescribeFileSystemsInput{FileSystemId: blues.FileSystemId})
			return err
		}, true},
		{"describe what is red", func() error {
			_, err := bob.DescribeFileSystems(t.Context(), &efs.DescribeFileSystemsInput{FileSystemId: reds.FileSystemId})
			return err
		}, false},
		{"describe its mount targets", func() error {
			_, err := bob.DescribeMountTargets(t.Context(), &efs.DescribeMountTargetsInput{FileSystemId: reds.FileSystemId})
			return err
		}, false},
		{"an operation without tags", func() error {
			_, err := bob.UpdateFileSystem(t.Context(), &efs.UpdateFileSystemInput{FileSystemId: blues.FileSystemId, ThroughputMode: "elastic"})
			return err
		}, false},
	} {
		allowed(t, test.what, test.do(), test.want)
	}
}

// What looks like tags in the request of an operation that has none is no tag for a policy.
func TestTagsWhereNoneBelong(t *testing.T) {
	conditions := map[string][]string{}
	body := &signed{body: []byte(`{"Tags":[{"Key":"Team","Value":"blue"}],"TagKeys":["Team"]}`)}
	r := httptest.NewRequest("POST", "/", nil)
	r = r.WithContext(context.WithValue(r.Context(), signedKey{}, body))
	for _, action := range []string{"elasticfilesystem:DeleteFileSystem", "elasticfilesystem:PutFileSystemPolicy", "kms:DisableKey", "nfseal:GrowVolume"} {
		addRequestTags(conditions, r, action)
	}
	if len(conditions) != 0 {
		t.Error(conditions)
	}
	addRequestTags(conditions, r, "elasticfilesystem:CreateFileSystem")
	if len(conditions) != 2 || conditions["aws:RequestTag/team"][0] != "blue" || len(conditions["aws:TagKeys"]) != 1 {
		t.Error(conditions)
	}
}

func TestTagsOfKMSInPolicies(t *testing.T) {
	d, _ := newKMS(t)
	admin := awskms.NewFromConfig(d.config(t, "admin", everything))
	tagged := func(value string) []kmstypes.Tag {
		return []kmstypes.Tag{{TagKey: aws.String("Team"), TagValue: &value}}
	}
	blue, err := admin.CreateKey(t.Context(), &awskms.CreateKeyInput{Tags: tagged("blue")})
	if err != nil {
		t.Fatal(err)
	}
	red, err := admin.CreateKey(t.Context(), &awskms.CreateKeyInput{Tags: tagged("red")})
	if err != nil {
		t.Fatal(err)
	}
	bob := awskms.NewFromConfig(d.config(t, "bob", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"kms:CreateKey","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/Team":"blue"}}},
		{"Effect":"Allow","Action":"kms:UntagResource","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"aws:TagKeys":"Name"}}},
		{"Effect":"Allow","Action":["kms:DescribeKey","kms:Encrypt"],"Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/Team":"blue"}}}]}`))
	for _, test := range []struct {
		what string
		do   func() error
		want bool
	}{
		{"make blue", func() error {
			_, err := bob.CreateKey(t.Context(), &awskms.CreateKeyInput{Tags: tagged("blue")})
			return err
		}, true},
		{"make red", func() error {
			_, err := bob.CreateKey(t.Context(), &awskms.CreateKeyInput{Tags: tagged("red")})
			return err
		}, false},
		{"make bare", func() error { _, err := bob.CreateKey(t.Context(), nil); return err }, false},
		{"describe blue", func() error {
			_, err := bob.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: blue.KeyMetadata.KeyId})
			return err
		}, true},
		{"describe red", func() error {
			_, err := bob.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: red.KeyMetadata.KeyId})
			return err
		}, false},
		{"encrypt under red", func() error {
			_, err := bob.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: red.KeyMetadata.KeyId, Plaintext: []byte("x")})
			return err
		}, false},
		{"untag a name", func() error {
			_, err := bob.UntagResource(t.Context(), &awskms.UntagResourceInput{KeyId: red.KeyMetadata.KeyId, TagKeys: []string{"Name"}})
			return err
		}, true},
		{"untag a team", func() error {
			_, err := bob.UntagResource(t.Context(), &awskms.UntagResourceInput{KeyId: red.KeyMetadata.KeyId, TagKeys: []string{"Team"}})
			return err
		}, false},
	} {
		allowed(t, test.what, test.do(), test.want)
	}
}
