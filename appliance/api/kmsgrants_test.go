package api

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	keys "github.com/nfseal/nfseal/appliance/kms"
)

const (
	nothing  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"elasticfilesystem:*","Resource":"*"}]}`
	bobARN   = "arn:aws:iam::000000000000:user/bob"
	carolARN = "arn:aws:iam::000000000000:user/carol"
)

// A grant lets its grantee do what it says, for its encryption context, from its making to its end.
func TestGrantsAllow(t *testing.T) {
	d, _ := newKMS(t)
	admin, ctx := kms.NewFromConfig(d.config(t, "admin", everything)), t.Context()
	bob := kms.NewFromConfig(d.config(t, "bob", nothing))
	carol := kms.NewFromConfig(d.config(t, "carol", nothing))
	id := newKey(t, admin)
	encrypt := func(c *kms.Client, ec map[string]string) error {
		_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x"), EncryptionContext: ec})
		return err
	}
	blue := map[string]string{"team": "blue", "more": "yes"}
	wantCode(t, encrypt(bob, blue), "AccessDeniedException")
	grant := &kms.CreateGrantInput{
		KeyId: id, GranteePrincipal: aws.String(bobARN), Name: aws.String("first"),
		Operations:  []types.GrantOperation{types.GrantOperationEncrypt, types.GrantOperationCreateGrant},
		Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{"team": "blue"}},
	}
	made, err := admin.CreateGrant(ctx, grant)
	if err != nil {
		t.Fatal(err)
	}
	again, err := admin.CreateGrant(ctx, grant)
	if err != nil || *again.GrantId != *made.GrantId {
		t.Errorf("the same grant again: %v, %v", again, err)
	}
	if err := encrypt(bob, blue); err != nil {
		t.Errorf("granted: %v", err)
	}
	wantCode(t, encrypt(bob, map[string]string{"team": "red"}), "AccessDeniedException")
	wantCode(t, encrypt(carol, blue), "AccessDeniedException")
	_, err = bob.Decrypt(ctx, &kms.DecryptInput{KeyId: id, CiphertextBlob: []byte("x")})
	wantCode(t, err, "InvalidCiphertextException")

	handOn := *grant
	handOn.GranteePrincipal, handOn.Constraints = aws.String(carolARN), nil
	_, err = bob.CreateGrant(ctx, &handOn)
	wantCode(t, err, "AccessDeniedException") // without the constraint it would allow more
	handOn.Constraints = &types.GrantConstraints{EncryptionContextEquals: blue}
	handOn.Operations = []types.GrantOperation{types.GrantOperationEncrypt, types.GrantOperationDecrypt}
	_, err = bob.CreateGrant(ctx, &handOn)
	wantCode(t, err, "AccessDeniedException") // nobody granted Decrypt
	handOn.Operations = []types.GrantOperation{types.GrantOperationEncrypt}
	if _, err := bob.CreateGrant(ctx, &handOn); err != nil {
		t.Fatalf("handed on: %v", err)
	}
	if err := encrypt(carol, blue); err != nil {
		t.Errorf("handed on: %v", err)
	}
	wantCode(t, encrypt(carol, map[string]string{"team": "blue"}), "AccessDeniedException") // Equals is all of it

	deny := `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Deny","Principal":{"AWS":"` + bobARN + `"},"Action":"kms:Encrypt","Resource":"*"}]}`
	if _, err := admin.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: id, Policy: &deny}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, encrypt(bob, blue), "AccessDeniedException") // what a policy denies no grant allows
}

func TestGrantsEnd(t *testing.T) {
	d, _ := newKMS(t)
	admin, ctx := kms.NewFromConfig(d.config(t, "admin", everything)), t.Context()
	bob := kms.NewFromConfig(d.config(t, "bob", nothing))
	carol := kms.NewFromConfig(d.config(t, "carol", nothing))
	id := newKey(t, admin)
	describe := func() error {
		_, err := bob.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
		return err
	}
	grant := func() *kms.CreateGrantOutput {
		t.Helper()
		made, err := admin.CreateGrant(ctx, &kms.CreateGrantInput{
			KeyId: id, GranteePrincipal: aws.String(bobARN), RetiringPrincipal: aws.String(carolARN),
			Operations: []types.GrantOperation{types.GrantOperationDescribeKey},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := describe(); err != nil {
			t.Fatal(err)
		}
		return made
	}
	made := grant()
	_, err := bob.RetireGrant(ctx, &kms.RetireGrantInput{GrantToken: made.GrantToken})
	wantCode(t, err, "AccessDeniedException") // not without RetireGrant among its operations
	_, err = carol.RetireGrant(ctx, &kms.RetireGrantInput{GrantToken: made.GrantToken, DryRun: aws.Bool(true)})
	wantCode(t, err, "DryRunOperationException")
	if _, err = carol.RetireGrant(ctx, &kms.RetireGrantInput{GrantToken: made.GrantToken}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, describe(), "AccessDeniedException")

	made = grant()
	_, err = bob.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: id, GrantId: made.GrantId})
	wantCode(t, err, "AccessDeniedException")
	if _, err = admin.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: id, GrantId: made.GrantId}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, describe(), "AccessDeniedException")
	_, err = admin.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: id, GrantId: made.GrantId})
	wantCode(t, err, "NotFoundException")
	_, err = admin.RetireGrant(ctx, &kms.RetireGrantInput{GrantToken: aws.String("bm9uZSBvZiBvdXJz")})
	wantCode(t, err, "InvalidGrantTokenException")
}

func TestListsOfGrants(t *testing.T) {
	d, _ := newKMS(t)
	admin, ctx := kms.NewFromConfig(d.config(t, "admin", everything)), t.Context()
	id, other := newKey(t, admin), newKey(t, admin)
	for i, key := range []*string{id, id, id, other} {
		in := &kms.CreateGrantInput{KeyId: key, GranteePrincipal: aws.String(bobARN), Operations: []types.GrantOperation{types.GrantOperationDecrypt}}
		if i > 1 {
			in.RetiringPrincipal, in.GranteePrincipal = aws.String(carolARN), aws.String("example.amazonaws.com")
		}
		if _, err := admin.CreateGrant(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	pages, n := kms.NewListGrantsPaginator(admin, &kms.ListGrantsInput{KeyId: id, Limit: aws.Int32(2)}), 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.Grants)
	}
	if n != 3 {
		t.Errorf("%d grants, want 3", n)
	}
	if out, err := admin.ListGrants(ctx, &kms.ListGrantsInput{KeyId: id, GranteePrincipal: aws.String(bobARN)}); err != nil || len(out.Grants) != 2 {
		t.Errorf("bob's: %+v, %v", out, err)
	}
	out, err := admin.ListRetirableGrants(ctx, &kms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(carolARN)})
	if err != nil || len(out.Grants) != 2 {
		t.Errorf("carol's: %+v, %v", out, err)
	}
}

func TestGrantsThatAreRefused(t *testing.T) {
	d, _ := newKMS(t)
	admin, ctx := kms.NewFromConfig(d.config(t, "admin", everything)), t.Context()
	id := newKey(t, admin)
	for name, c := range map[string]struct {
		change func(*kms.CreateGrantInput)
		code   string
	}{
		"nobody":            {func(in *kms.CreateGrantInput) { in.GranteePrincipal = aws.String("bob") }, "InvalidArnException"},
		"everybody":         {func(in *kms.CreateGrantInput) { in.GranteePrincipal = aws.String("*") }, "InvalidArnException"},
		"retired by nobody": {func(in *kms.CreateGrantInput) { in.RetiringPrincipal = aws.String("arn:aws:iam::1:user/x") }, "InvalidArnException"},
		"no such operation": {func(in *kms.CreateGrantInput) { in.Operations = []types.GrantOperation{"Everything"} }, "ValidationException"},
		"signing":           {func(in *kms.CreateGrantInput) { in.Operations = []types.GrantOperation{types.GrantOperationSign} }, "ValidationException"},
		"no operation":      {func(in *kms.CreateGrantInput) { in.Operations = []types.GrantOperation{} }, "ValidationException"},
		"name":              {func(in *kms.CreateGrantInput) { in.Name = aws.String("not a name") }, "ValidationException"},
		"key":               {func(in *kms.CreateGrantInput) { in.KeyId = aws.String("alias/none") }, "NotFoundException"},
		"two constraints": {func(in *kms.CreateGrantInput) {
			in.Constraints = &types.GrantConstraints{EncryptionContextEquals: map[string]string{"a": "b"}, EncryptionContextSubset: map[string]string{"a": "b"}}
		}, "ValidationException"},
	} {
		in := &kms.CreateGrantInput{KeyId: id, GranteePrincipal: aws.String(bobARN), Operations: []types.GrantOperation{types.GrantOperationDecrypt}}
		c.change(in)
		_, err := admin.CreateGrant(ctx, in)
		t.Run(name, func(t *testing.T) { wantCode(t, err, c.code) })
	}
	if _, err := admin.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id}); err != nil {
		t.Fatal(err)
	}
	_, err := admin.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: id, GranteePrincipal: aws.String(bobARN), Operations: []types.GrantOperation{types.GrantOperationDecrypt}})
	wantCode(t, err, "DisabledException")
}

// The key that is managed for EFS comes with the first question for it, and nobody changes it, by no way.
func TestManagedKey(t *testing.T) {
	d, _ := newKMS(t)
	admin, ctx := kms.NewFromConfig(d.config(t, "admin", everything)), t.Context()
	made, err := admin.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(keys.ManagedAlias(keys.EFS))})
	if err != nil || made.KeyMetadata.KeyManager != types.KeyManagerTypeAws {
		t.Fatalf("%+v, %v", made, err)
	}
	again, err := admin.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(keys.ManagedAlias(keys.EFS))})
	if err != nil || *again.KeyMetadata.KeyId != *made.KeyMetadata.KeyId {
		t.Errorf("another one the second time: %v", err)
	}
	id := made.KeyMetadata.KeyId
	if status, err := admin.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: id}); err != nil || !status.KeyRotationEnabled {
		t.Errorf("rotation: %+v, %v", status, err)
	}
	text := everything
	for name, call := range map[string]func() error{
		"DisableKey": func() error { _, err := admin.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id}); return err },
		"ScheduleKeyDeletion": func() error {
			_, err := admin.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id})
			return err
		},
		"PutKeyPolicy": func() error {
			_, err := admin.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: id, Policy: &text})
			return err
		},
		"DisableKeyRotation": func() error {
			_, err := admin.DisableKeyRotation(ctx, &kms.DisableKeyRotationInput{KeyId: id})
			return err
		},
		"RotateKeyOnDemand": func() error {
			_, err := admin.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
			return err
		},
		"CreateAlias": func() error {
			_, err := admin.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/mine"), TargetKeyId: id})
			return err
		},
		"Encrypt": func() error {
			_, err := admin.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, call(), "AccessDeniedException") })
	}
	_, err = admin.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String(keys.ManagedAlias(keys.EFS))})
	wantCode(t, err, "AccessDeniedException")
}
