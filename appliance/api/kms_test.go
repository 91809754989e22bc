package api

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/nfseal/nfseal/appliance/api/apitest"
)

// newKMS opens a front door with the KMS behind it, whose clock is ahead by what it points to.
func newKMS(t *testing.T) (*door, *time.Duration) {
	t.Helper()
	ahead := new(time.Duration)
	k := apitest.NewKeys(t, "local-1", func() time.Time { return time.Now().Add(*ahead) })
	backend, log := &memoryBackend{Directory: apitest.NewDirectory(t), records: newRecords(t)}, &memoryLog{}
	s, err := New(Options{Backend: backend, Audit: log, Keys: k, Region: "local-1"})
	if err != nil {
		t.Fatal(err)
	}
	d := &door{httptest.NewTLSServer(s.FrontDoor()), backend, log, k}
	t.Cleanup(d.Close)
	return d, ahead
}

func newKey(t *testing.T, client *kms.Client) *string {
	t.Helper()
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{Description: aws.String("for tests")})
	if err != nil {
		t.Fatal(err)
	}
	return made.KeyMetadata.KeyId
}

func TestEncryptDecrypt(t *testing.T) {
	d, _ := newKMS(t)
	client, ctx := kms.NewFromConfig(d.config(t, "admin", everything)), t.Context()
	id, other := newKey(t, client), newKey(t, client)
	secret := []byte("a secret of the caller")
	made, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: secret, EncryptionContext: map[string]string{"a": "1", "b": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	open := func(in *kms.DecryptInput) ([]byte, error) {
		out, err := client.Decrypt(ctx, in)
		if err != nil {
			return nil, err
		}
		return out.Plaintext, nil
	}
	same := map[string]string{"b": "2", "a": "1"}
	if got, err := open(&kms.DecryptInput{CiphertextBlob: made.CiphertextBlob, EncryptionContext: same}); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%q, %v", got, err)
	}
	damaged := bytes.Clone(made.CiphertextBlob)
	damaged[len(damaged)-1] ^= 1
	for name, c := range map[string]struct {
		in   kms.DecryptInput
		code string
	}{
		"other case of a name": {kms.DecryptInput{CiphertextBlob: made.CiphertextBlob, EncryptionContext: map[string]string{"A": "1", "b": "2"}}, "InvalidCiphertextException"},
		"no context":           {kms.DecryptInput{CiphertextBlob: made.CiphertextBlob}, "InvalidCiphertextException"},
		"damaged":              {kms.DecryptInput{CiphertextBlob: damaged, EncryptionContext: same}, "InvalidCiphertextException"},
		"no ciphertext":        {kms.DecryptInput{CiphertextBlob: []byte("no ciphertext"), EncryptionContext: same}, "InvalidCiphertextException"},
		"another key":          {kms.DecryptInput{CiphertextBlob: made.CiphertextBlob, EncryptionContext: same, KeyId: other}, "IncorrectKeyException"},
		"no such key":          {kms.DecryptInput{CiphertextBlob: made.CiphertextBlob, KeyId: aws.String("alias/none")}, "NotFoundException"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := open(&c.in)
			wantCode(t, err, c.code)
		})
	}
	moved, err := client.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: made.CiphertextBlob, SourceEncryptionContext: same, DestinationKeyId: other})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open(&kms.DecryptInput{CiphertextBlob: moved.CiphertextBlob, KeyId: other}); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("moved: %q, %v", got, err)
	}
	_, err = client.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: make([]byte, 4097)})
	wantCode(t, err, "ValidationException")
	for i := range d.log.events {
		for _, value := range d.log.events[i].Parameters {
			if strings.Contains(value, string(secret)) {
				t.Error("the plaintext is in the audit log")
			}
		}
	}
}

func TestDataKeys(t *testing.T) {
	d, _ := newKMS(t)
	client, ctx := kms.NewFromConfig(d.config(t, "admin", everything)), t.Context()
	id := newKey(t, client)
	made, err := client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: id, KeySpec: types.DataKeySpecAes256})
	if err != nil || len(made.Plaintext) != 32 {
		t.Fatalf("%d bytes, %v", len(made.Plaintext), err)
	}
	opened, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob})
	if err != nil || !bytes.Equal(opened.Plaintext, made.Plaintext) {
		t.Errorf("another key comes out: %v", err)
	}
	hidden, err := client.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: id, NumberOfBytes: aws.Int32(64)})
	if err != nil {
		t.Fatal(err)
	}
	if opened, err = client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: hidden.CiphertextBlob}); err != nil || len(opened.Plaintext) != 64 {
		t.Errorf("without plaintext: %v", err)
	}
	_, err = client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: id, NumberOfBytes: aws.Int32(1025)})
	wantCode(t, err, "ValidationException")
	random, err := client.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(24)})
	if err != nil || len(random.Plaintext) != 24 {
		t.Errorf("random: %v", err)
	}
}

func TestStatesOfAKey(t *testing.T) {
	d, ahead := newKMS(t)
	client, ctx := kms.NewFromConfig(d.config(t, "admin", everything)), t.Context()
	id := newKey(t, client)
	use := func() error {
		_, err := client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: id, KeySpec: types.DataKeySpecAes256})
		return err
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/one"), TargetKeyId: id}))
	must(client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id}))
	wantCode(t, use(), "DisabledException")
	must(client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: id}))
	must(nil, use())
	_, err := client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(6)})
	wantCode(t, err, "ValidationException")
	must(client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(7)}))
	wantCode(t, use(), "KMSInvalidStateException")
	_, err = client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: id})
	wantCode(t, err, "KMSInvalidStateException")
	must(client.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: id}))
	wantCode(t, use(), "DisabledException")
	must(client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(7)}))
	*ahead = 8 * 24 * time.Hour
	_, err = client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
	wantCode(t, err, "NotFoundException")
	*ahead = 0
	_, err = client.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: id})
	wantCode(t, err, "NotFoundException") // it was destroyed, and its alias with it
	if list, err := client.ListAliases(ctx, &kms.ListAliasesInput{}); err != nil || len(list.Aliases) != 0 {
		t.Errorf("aliases of a deleted key: %+v, %v", list, err)
	}
}

func TestRotation(t *testing.T) {
	d, ahead := newKMS(t)
	client, ctx := kms.NewFromConfig(d.config(t, "admin", everything)), t.Context()
	id := newKey(t, client)
	var blobs [][]byte
	encrypt := func() {
		t.Helper()
		out, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("old and new")})
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, out.CiphertextBlob)
	}
	encrypt()
	if _, err := client.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id}); err != nil {
		t.Fatal(err)
	}
	encrypt()
	if _, err := client.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id, RotationPeriodInDays: aws.Int32(90)}); err != nil {
		t.Fatal(err)
	}
	status, err := client.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: id})
	if err != nil || !status.KeyRotationEnabled || *status.RotationPeriodInDays != 90 {
		t.Errorf("%+v, %v", status, err)
	}
	*ahead = 91 * 24 * time.Hour
	encrypt()
	for i, blob := range blobs {
		if out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob}); err != nil || string(out.Plaintext) != "old and new" {
			t.Errorf("version %d: %v", i, err)
		}
	}
	list, err := client.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: id})
	if err != nil || len(list.Rotations) != 2 || list.Rotations[0].RotationType != types.RotationTypeOnDemand ||
		list.Rotations[1].RotationType != types.RotationTypeAutomatic {
		t.Errorf("%+v, %v", list, err)
	}
	pages, kinds := kms.NewListKeyRotationsPaginator(client, &kms.ListKeyRotationsInput{KeyId: id, Limit: aws.Int32(1)}), ""
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Rotations {
			kinds += string(r.RotationType) + " "
		}
	}
	if kinds != "ON_DEMAND AUTOMATIC " {
		t.Errorf("page by page: %s", kinds)
	}
}

func TestAliases(t *testing.T) {
	d, _ := newKMS(t)
	client, ctx := kms.NewFromConfig(d.config(t, "admin", everything)), t.Context()
	id, other := newKey(t, client), newKey(t, client)
	name := aws.String("alias/data")
	_, err := client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/more"), TargetKeyId: name})
	wantCode(t, err, "ValidationException")
	if _, err := client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: name, TargetKeyId: id}); err != nil {
		t.Fatal(err)
	}
	_, err = client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: name, TargetKeyId: other})
	wantCode(t, err, "AlreadyExistsException")
	_, err = client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/aws/mine"), TargetKeyId: id})
	wantCode(t, err, "NotAuthorizedException")
	for _, key := range []string{"alias/data", "arn:aws:kms:local-1:000000000000:alias/data", "arn:aws:kms:local-1:000000000000:key/" + *id} {
		if out, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &key}); err != nil || *out.KeyMetadata.KeyId != *id {
			t.Errorf("%s: %v", key, err)
		}
	}
	if _, err := client.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: name, TargetKeyId: other}); err != nil {
		t.Fatal(err)
	}
	if out, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: name}); err != nil || *out.KeyMetadata.KeyId != *other {
		t.Errorf("after UpdateAlias: %v", err)
	}
	if _, err := client.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: name}); err != nil {
		t.Fatal(err)
	}
	_, err = client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: name})
	wantCode(t, err, "NotFoundException")
	_, err = client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: name})
	wantCode(t, err, "NotFoundException")
}

func TestKeyPolicies(t *testing.T) {
	d, _ := newKMS(t)
	admin, ctx := kms.NewFromConfig(d.config(t, "admin", everything)), t.Context()
	nobody := kms.NewFromConfig(d.config(t, "nobody", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"efs:*","Resource":"*"}]}`))
	id := newKey(t, admin)
	in := &kms.EncryptInput{KeyId: id, Plaintext: []byte("x"), EncryptionContext: map[string]string{"team": "blue"}}
	_, err := nobody.Encrypt(ctx, in)
	wantCode(t, err, "AccessDeniedException")
	put := func(document string) error {
		_, err := admin.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: id, Policy: &document})
		return err
	}
	wantCode(t, put(`{"Version":"2012-10-17"}`), "MalformedPolicyDocumentException")
	if err := put(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":["kms:PutKeyPolicy","kms:DescribeKey"],"Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/nobody"},"Action":"kms:Encrypt","Resource":"*",
		 "Condition":{"StringEquals":{"kms:EncryptionContext:team":"blue"}}}]}`); err != nil {
		t.Fatal(err)
	}
	if _, err := nobody.Encrypt(ctx, in); err != nil {
		t.Errorf("named by the key's policy: %v", err)
	}
	_, err = nobody.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
	wantCode(t, err, "AccessDeniedException")
	if err := put(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Deny","Principal":"*","Action":"kms:ReEncrypt*","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:team":"blue"}}}]}`); err != nil {
		t.Fatal(err)
	}
	made, err := admin.Encrypt(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	_, err = admin.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: made.CiphertextBlob, SourceEncryptionContext: in.EncryptionContext, DestinationKeyId: id})
	wantCode(t, err, "AccessDeniedException")
	if err := put(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"kms:PutKeyPolicy","Resource":"*"}]}`); err != nil {
		t.Fatal(err)
	}
	_, err = admin.Encrypt(ctx, in) // its own policies don't count: the key's names no account
	wantCode(t, err, "AccessDeniedException")
}

func TestTagsAndPagesOfKeys(t *testing.T) {
	d, _ := newKMS(t)
	client, ctx := kms.NewFromConfig(d.config(t, "admin", everything)), t.Context()
	id := newKey(t, client)
	newKey(t, client)
	tag := func(name string) error {
		_, err := client.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: []types.Tag{{TagKey: &name, TagValue: aws.String("v")}}})
		return err
	}
	if err := errors.Join(tag("one"), tag("two")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, tag("aws:three"), "TagException")
	if _, err := client.UntagResource(ctx, &kms.UntagResourceInput{KeyId: id, TagKeys: []string{"one"}}); err != nil {
		t.Fatal(err)
	}
	if out, err := client.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: id}); err != nil || len(out.Tags) != 1 || *out.Tags[0].TagKey != "two" {
		t.Errorf("%+v, %v", out, err)
	}
	pages, n := kms.NewListKeysPaginator(client, &kms.ListKeysInput{Limit: aws.Int32(1)}), 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.Keys)
	}
	if n != 2 {
		t.Errorf("%d keys, want 2", n)
	}
	_, err := client.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048})
	wantCode(t, err, "UnsupportedOperationException")
	_, err = client.GetParametersForImport(ctx, &kms.GetParametersForImportInput{
		KeyId: id, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048,
	})
	wantCode(t, err, "UnsupportedOperationException")
}
