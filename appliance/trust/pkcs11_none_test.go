//go:build !pkcs11

package trust

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPKCS11Build runs the tests of the build that speaks to tokens, against softhsm2: `make test` has the other.
func TestPKCS11Build(t *testing.T) {
	cmd := exec.Command("go", "test", "-count=1", "-tags", "pkcs11", "-v", "-run", "^TestPKCS11", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestPKCS11Refuses") || strings.Contains(string(out), "SKIP") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestPKCS11OfThisBuild(t *testing.T) {
	o, err := Parse("pkcs11:/usr/lib/softhsm/libsofthsm2.so?token=nfseal&object=root")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), o, false); err == nil || !strings.Contains(err.Error(), "-tags pkcs11") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"pkcs11:", "pkcs11:libsofthsm2.so?token=a&object=b", "pkcs11:/lib.so", "pkcs11:/lib.so?token=a", "pkcs11:/lib.so?token=a&object=b&pin-value=1", "pkcs11:/lib.so?token=&object=b"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
