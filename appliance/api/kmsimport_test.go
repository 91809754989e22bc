package api

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// imports does what somebody does who brings material of his own.
type imports struct {
	t      *testing.T
	client *kms.Client
}

func (i *imports) newExternal() *string {
	i.t.Helper()
	made, err := i.client.CreateKey(i.t.Context(), &kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	if err != nil {
		i.t.Fatal(err)
	}
	m := made.KeyMetadata
	if m.KeyState != types.KeyStatePendingImport || m.Origin != types.OriginTypeExternal || m.Enabled || m.ExpirationModel != "" {
		i.t.Errorf("made as %+v", m)
	}
	return m.KeyId
}

func (i *imports) parameters(id *string, spec types.WrappingKeySpec) *kms.GetParametersForImportOutput {
	i.t.Helper()
	p, err := i.client.GetParametersForImport(i.t.Context(), &kms.GetParametersForImportInput{
		KeyId: id, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: spec,
	})
	if err != nil {
		i.t.Fatal(err)
	}
	return p
}

// wrapped encrypts material as the API's users do.
func (i *imports) wrapped(p *kms.GetParametersForImportOutput, material []byte) []byte {
	i.t.Helper()
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		i.t.Fatal(err)
	}
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	return encrypted
}

// bring imports material for good, or until a time.
func (i *imports) bring(id *string, p *kms.GetParametersForImportOutput, material []byte, until *time.Time) error {
	i.t.Helper()
	in := &kms.ImportKeyMaterialInput{
		KeyId: id, ImportToken: p.ImportToken, EncryptedKeyMaterial: i.wrapped(p, material),
		ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
	}
	if until != nil {
		in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialExpires, until
	}
	_, err := i.client.ImportKeyMaterial(i.t.Context(), in)
	return err
}

func (i *imports) metadata(id *string) *types.KeyMetadata {
	i.t.Helper()
	out, err := i.client.DescribeKey(i.t.Context(), &kms.DescribeKeyInput{KeyId: id})
	if err != nil {
		i.t.Fatal(err)
	}
	return out.KeyMetadata
}

func (i *imports) encrypt(id *string) ([]byte, error) {
	out, err := i.client.Encrypt(i.t.Context(), &kms.EncryptInput{KeyId: id, Plaintext: []byte("secret")})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}

func (i *imports) opens(blob []byte) error {
	out, err := i.client.Decrypt(i.t.Context(), &kms.DecryptInput{CiphertextBlob: blob})
	if err == nil && string(out.Plaintext) != "secret" {
		i.t.Errorf("decrypted %q", out.Plaintext)
	}
	return err
}

func TestImportKeyMaterial(t *testing.T) {
	d, _ := newKMS(t)
	i := &imports{t, kms.NewFromConfig(d.config(t, "admin", everything))}
	material := bytes.Repeat([]byte{0x42}, 32)
	for _, spec := range []types.WrappingKeySpec{types.WrappingKeySpecRsa2048, types.WrappingKeySpecRsa3072, types.WrappingKeySpecRsa4096} {
		id := i.newExternal()
		_, err := i.encrypt(id)
		wantCode(t, err, "KMSInvalidStateException")
		p := i.parameters(id, spec)
		public, err := x509.ParsePKIXPublicKey(p.PublicKey)
		if err != nil || len(p.ImportToken) > 6144 {
			t.Fatalf("a token of %d bytes, %v", len(p.ImportToken), err)
		}
		if bits := public.(*rsa.PublicKey).N.BitLen(); "RSA_"+string([]byte{'0' + byte(bits/1000)})+string(spec[5:]) != string(spec) {
			t.Errorf("%s is of %d bits", spec, bits)
		}
		if left := time.Until(*p.ParametersValidTo); left < 23*time.Hour || left > 24*time.Hour {
			t.Errorf("parameters are valid for %v", left)
		}
		if err := i.bring(id, p, material, nil); err != nil {
			t.Fatal(err)
		}
		m := i.metadata(id)
		if m.KeyState != types.KeyStateEnabled || m.ExpirationModel != types.ExpirationModelTypeKeyMaterialDoesNotExpire || m.ValidTo != nil {
			t.Errorf("%+v", m)
		}
		blob, err := i.encrypt(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := i.opens(blob); err != nil {
			t.Error(err)
		}
	}
}

// Deleted material is gone until the same is imported again; other material is refused.
func TestDeleteImportedKeyMaterial(t *testing.T) {
	d, _ := newKMS(t)
	i, ctx := &imports{t, kms.NewFromConfig(d.config(t, "admin", everything))}, t.Context()
	id, material := i.newExternal(), bytes.Repeat([]byte{1}, 32)
	p := i.parameters(id, types.WrappingKeySpecRsa2048)
	if err := i.bring(id, p, material, nil); err != nil {
		t.Fatal(err)
	}
	blob, err := i.encrypt(id)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to delete
		if _, err := i.client.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: id}); err != nil {
			t.Fatal(err)
		}
		if m := i.metadata(id); m.KeyState != types.KeyStatePendingImport || m.ExpirationModel != "" {
			t.Errorf("%+v", m)
		}
		wantCode(t, i.opens(blob), "KMSInvalidStateException")
	}
	_, err = i.client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: id})
	wantCode(t, err, "KMSInvalidStateException")
	_, err = i.client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id})
	wantCode(t, err, "KMSInvalidStateException")
	wantCode(t, i.bring(id, p, bytes.Repeat([]byte{2}, 32), nil), "IncorrectKeyMaterialException")
	if err := i.bring(id, p, material, nil); err != nil { // with the token of before
		t.Fatal(err)
	}
	if err := i.opens(blob); err != nil {
		t.Error(err)
	}

	if _, err := i.client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, i.bring(id, p, material, nil), "KMSInvalidStateException")
	if _, err := i.client.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: id}); err != nil {
		t.Fatal(err)
	}
	if m := i.metadata(id); m.KeyState != types.KeyStatePendingDeletion {
		t.Errorf("%+v", m)
	}
	if _, err := i.client.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: id}); err != nil {
		t.Fatal(err)
	}
	if m := i.metadata(id); m.KeyState != types.KeyStatePendingImport {
		t.Errorf("after the deletion was cancelled: %+v", m)
	}
}

func TestImportedMaterialExpires(t *testing.T) {
	d, ahead := newKMS(t)
	i := &imports{t, kms.NewFromConfig(d.config(t, "admin", everything))}
	id, material := i.newExternal(), bytes.Repeat([]byte{1}, 32)
	p := i.parameters(id, types.WrappingKeySpecRsa2048)
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	if err := i.bring(id, p, material, &until); err != nil {
		t.Fatal(err)
	}
	if m := i.metadata(id); m.ExpirationModel != types.ExpirationModelTypeKeyMaterialExpires || m.ValidTo == nil || !m.ValidTo.Equal(until) {
		t.Errorf("%+v", m)
	}
	blob, err := i.encrypt(id)
	if err != nil {
		t.Fatal(err)
	}
	*ahead = 2 * time.Hour
	wantCode(t, i.opens(blob), "KMSInvalidStateException")
	if m := i.metadata(id); m.KeyState != types.KeyStatePendingImport || m.ValidTo != nil {
		t.Errorf("%+v", m)
	}
	*ahead = 0 // the clock that goes back does not bring it back, once somebody has swept
	if err := d.keys.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := i.opens(blob); err != nil {
		t.Errorf("before its time: %v", err)
	}
	*ahead = 2 * time.Hour
	if err := d.keys.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	*ahead = 0
	wantCode(t, i.opens(blob), "KMSInvalidStateException")
	if err := i.bring(id, p, material, nil); err != nil {
		t.Fatal(err)
	}
	if err := i.opens(blob); err != nil {
		t.Error(err)
	}
	*ahead = 25 * time.Hour
	wantCode(t, i.bring(id, p, material, nil), "ExpiredImportTokenException")
}

func TestImportThatIsRefused(t *testing.T) {
	d, _ := newKMS(t)
	i, ctx := &imports{t, kms.NewFromConfig(d.config(t, "admin", everything))}, t.Context()
	id, other, ordinary := i.newExternal(), i.newExternal(), newKey(t, i.client)
	p, ofOther := i.parameters(id, types.WrappingKeySpecRsa2048), i.parameters(other, types.WrappingKeySpecRsa2048)
	material := bytes.Repeat([]byte{1}, 32)
	soon, past, far := time.Now().Add(time.Hour), time.Now().Add(-time.Hour), time.Now().AddDate(2, 0, 0)
	for name, test := range map[string]struct {
		change func(*kms.ImportKeyMaterialInput)
		code   string
	}{
		"another key's token":    {func(in *kms.ImportKeyMaterialInput) { in.ImportToken = ofOther.ImportToken }, "InvalidImportTokenException"},
		"no token":               {func(in *kms.ImportKeyMaterialInput) { in.ImportToken = []byte("x") }, "InvalidImportTokenException"},
		"another wrapping key":   {func(in *kms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial = i.wrapped(ofOther, material) }, "InvalidCiphertextException"},
		"not encrypted":          {func(in *kms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial = material }, "InvalidCiphertextException"},
		"short material":         {func(in *kms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial = i.wrapped(p, material[1:]) }, "IncorrectKeyMaterialException"},
		"long material":          {func(in *kms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial = i.wrapped(p, append(material, 1)) }, "IncorrectKeyMaterialException"},
		"an ordinary key":        {func(in *kms.ImportKeyMaterialInput) { in.KeyId = ordinary }, "UnsupportedOperationException"},
		"no time":                {func(in *kms.ImportKeyMaterialInput) { in.ExpirationModel = "" }, "ValidationException"},
		"a time for good":        {func(in *kms.ImportKeyMaterialInput) { in.ValidTo = &soon }, "ValidationException"},
		"a time that is over":    {func(in *kms.ImportKeyMaterialInput) { in.ValidTo, in.ExpirationModel = &past, "" }, "ValidationException"},
		"a time that is far":     {func(in *kms.ImportKeyMaterialInput) { in.ValidTo, in.ExpirationModel = &far, "" }, "ValidationException"},
		"another model":          {func(in *kms.ImportKeyMaterialInput) { in.ExpirationModel = "SOMETIMES" }, "ValidationException"},
		"second material":        {func(in *kms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeNewKeyMaterial }, "UnsupportedOperationException"},
		"material by its own id": {func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialId = aws.String("x") }, "UnsupportedOperationException"},
	} {
		in := &kms.ImportKeyMaterialInput{
			KeyId: id, ImportToken: p.ImportToken, EncryptedKeyMaterial: i.wrapped(p, material),
			ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
		}
		test.change(in)
		t.Log(name)
		_, err := i.client.ImportKeyMaterial(ctx, in)
		wantCode(t, err, test.code)
		if m := i.metadata(id); m.KeyState != types.KeyStatePendingImport {
			t.Fatalf("%s: %+v", name, m)
		}
	}
	for _, in := range []*kms.GetParametersForImportInput{
		{KeyId: ordinary, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048},
		{KeyId: id, WrappingAlgorithm: types.AlgorithmSpecRsaesPkcs1V15, WrappingKeySpec: types.WrappingKeySpecRsa2048},
	} {
		_, err := i.client.GetParametersForImport(ctx, in)
		wantCode(t, err, "UnsupportedOperationException")
	}
	_, err := i.client.GetParametersForImport(ctx, &kms.GetParametersForImportInput{
		KeyId: id, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: "RSA_1024",
	})
	wantCode(t, err, "ValidationException")
	_, err = i.client.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: ordinary})
	wantCode(t, err, "UnsupportedOperationException")
	if err := i.bring(id, p, material, nil); err != nil {
		t.Fatal(err)
	}
	_, err = i.client.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id})
	wantCode(t, err, "UnsupportedOperationException")
	_, err = i.client.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
	wantCode(t, err, "UnsupportedOperationException")
	if out, err := i.client.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: id}); err != nil || out.KeyRotationEnabled {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := i.client.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: id}); err != nil || len(out.Rotations) != 0 {
		t.Errorf("%+v, %v", out, err)
	}

	nobody := kms.NewFromConfig(d.config(t, "bob", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"},
		{"Effect":"Deny","Action":"kms:ImportKeyMaterial","Resource":"*","Condition":{"StringNotEquals":{"kms:ExpirationModel":"KEY_MATERIAL_EXPIRES"}}},
		{"Effect":"Deny","Action":"kms:GetParametersForImport","Resource":"*","Condition":{"StringEquals":{"kms:WrappingKeySpec":"RSA_2048"}}}]}`))
	bob := &imports{t, nobody}
	_, err = nobody.GetParametersForImport(ctx, &kms.GetParametersForImportInput{
		KeyId: id, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048,
	})
	wantCode(t, err, "AccessDeniedException")
	wantCode(t, bob.bring(id, p, material, nil), "AccessDeniedException")
	if err := bob.bring(id, p, material, &soon); err != nil {
		t.Error(err)
	}
}

// Material is in no record of the audit log.
func TestImportLeavesNoTrace(t *testing.T) {
	d, _ := newKMS(t)
	i := &imports{t, kms.NewFromConfig(d.config(t, "admin", everything))}
	id := i.newExternal()
	p := i.parameters(id, types.WrappingKeySpecRsa2048)
	if err := i.bring(id, p, bytes.Repeat([]byte("material"), 4), nil); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	d.log.mu.Lock()
	defer d.log.mu.Unlock()
	for _, e := range d.log.events {
		names[e.Name] = true
		for name, value := range e.Parameters {
			if len(value) > 200 || name == "importToken" || name == "encryptedKeyMaterial" {
				t.Errorf("%s: %s is %q", e.Name, name, value)
			}
		}
	}
	if !names["ImportKeyMaterial"] || !names["GetParametersForImport"] {
		t.Errorf("recorded %v", names)
	}
}
