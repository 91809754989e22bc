package appliance

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/kms"
)

// bringMaterial imports 32 bytes as AWS's guide says: openssl encrypts them, the unmodified CLI does the rest.
func bringMaterial(t *testing.T, aws *awsCLI, id, spec string, material []byte) {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	put := func(name string, content []byte) {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	decode := func(text string) []byte {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var p struct{ ImportToken, PublicKey string }
	aws.do(t, &p, "kms", "get-parameters-for-import", "--key-id", id, "--wrapping-algorithm", "RSAES_OAEP_SHA_256", "--wrapping-key-spec", spec)
	put("token", decode(p.ImportToken))
	put("public.der", decode(p.PublicKey))
	put("material", material)
	out, err := exec.Command("openssl", "pkeyutl", "-encrypt", "-in", path("material"), "-inkey", path("public.der"), "-keyform", "DER", "-pubin",
		"-out", path("encrypted"), "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256").CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v: %s", err, out)
	}
	aws.do(t, nil, "kms", "import-key-material", "--key-id", id, "--import-token", "fileb://"+path("token"),
		"--encrypted-key-material", "fileb://"+path("encrypted"), "--expiration-model", "KEY_MATERIAL_DOES_NOT_EXPIRE")
}

// A file system is under a key whose material somebody brings, takes away and brings again; the unit that goes
// elsewhere goes without it.
func TestAWSCLIImportsKeyMaterial(t *testing.T) {
	t.Parallel()
	here, there := t.TempDir(), t.TempDir()
	r := start(t, testOptions(here))
	aws := newAWS(t, r, mayEverything)
	material := []byte("0123456789abcdef0123456789ABCDEF")
	var made struct {
		KeyMetadata struct{ KeyId, KeyState, Origin string }
	}
	aws.do(t, &made, "kms", "create-key", "--origin", "EXTERNAL")
	id := made.KeyMetadata.KeyId
	if made.KeyMetadata.KeyState != "PendingImport" || made.KeyMetadata.Origin != "EXTERNAL" {
		t.Errorf("%+v", made)
	}
	aws.refused(t, "KMSInvalidStateException", "efs", "create-file-system", "--creation-token", "a", "--encrypted", "--kms-key-id", id)
	aws.refused(t, "InvalidImportTokenException", "kms", "import-key-material", "--key-id", id, "--import-token", "fileb:///etc/hostname",
		"--encrypted-key-material", "fileb:///etc/hostname", "--expiration-model", "KEY_MATERIAL_DOES_NOT_EXPIRE")
	bringMaterial(t, aws, id, "RSA_3072", material)
	f, err := r.CreateFileSystem(t.Context(), catalog.FileSystem{CreationToken: "a", Key: id})
	if err != nil {
		t.Fatal(err)
	}
	c, root := r.mount(t, f.ID)
	write(t, c, root, "file", "content")

	aws.do(t, nil, "kms", "delete-imported-key-material", "--key-id", id)
	r.awaitSealed(t, f.ID, true)
	bringMaterial(t, aws, id, "RSA_2048", material)
	r.awaitSealed(t, f.ID, false)
	expect(t, c, root, "file", "content")
	unit := r.units[0]
	copied, err := os.ReadFile(unit.fsDir(f.ID).key())
	if err != nil || !strings.Contains(string(copied), `"sealed":null`) || strings.Contains(string(copied), `"sealed":"`) {
		t.Errorf("beside the file system: %s, %v", copied, err)
	}
	r.stop(t)

	if err := copyFile(layout{here}.rootKey(), layout{there}.rootKey(), 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, testOptions(there))
	r.stop(t)
	copyTree(t, filepath.Join(here, "units", unit.ID()), filepath.Join(there, "units", unit.ID()))
	r = start(t, testOptions(there))
	aws = newAWS(t, r, mayEverything)
	key, err := r.kmsKeys.Find(t.Context(), id)
	if err != nil || key.State != kms.PendingImport {
		t.Fatalf("elsewhere: %+v, %v", key, err)
	}
	bringMaterial(t, aws, id, "RSA_2048", material)
	eventually(t, "served with its material", func() bool {
		for _, u := range r.units {
			if slices.Contains(u.view().served, f.ID) {
				return true
			}
		}
		return false
	})
	c, root = r.mount(t, f.ID)
	expect(t, c, root, "file", "content")
}
