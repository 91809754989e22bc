package uki

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// measureTool is systemd's, of the package that the image has systemd of.
const measureTool = "/usr/lib/systemd/systemd-measure"

// What a TPM will have is what systemd's own tool says, of the parts; signatures don't change it, and all else does.
func TestPCR11(t *testing.T) {
	p, _ := parts(t)
	if _, err := os.Stat(measureTool); err != nil {
		t.Skip("needs systemd-measure: runs on a machine with systemd 252 or later")
	}
	dir := t.TempDir()
	p.PolicyKey, p.Signatures = filepath.Join(dir, "key"), filepath.Join(dir, "signatures")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(p.PolicyKey, "a public key\n")
	write(p.Signatures, `{"sha256":[]}`)
	measure := func(p Parts) string {
		t.Helper()
		image := filepath.Join(dir, "image.efi")
		if err := Build(t.Context(), p, image); err != nil {
			t.Fatal(err)
		}
		pcr, err := PCR11(image)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(pcr[:])
	}
	got := measure(p)
	if want := predicted(t, p); got != want {
		t.Errorf("%s, and systemd-measure says %s", got, want)
	}
	unsigned := p
	unsigned.Signatures = ""
	if other := measure(unsigned); other != got {
		t.Error("the signatures are measured")
	}
	nobody := unsigned
	nobody.PolicyKey = ""
	if other, want := measure(nobody), predicted(t, nobody); other == got || other != want {
		t.Errorf("without a key: %s, and systemd-measure says %s", other, want)
	}
	write(p.Cmdline, "quie+")
	if other := measure(p); other == got {
		t.Error("another command line is not measured")
	}
	if _, err := PCR11(p.Kernel); err == nil {
		t.Error("no program at all is measured")
	}
}

// predicted is what systemd-measure says, before any phase of the boot.
func predicted(t *testing.T, p Parts) string {
	t.Helper()
	args := []string{"calculate", "--bank=sha256", "--phase=", "--json=short",
		"--linux=" + p.Kernel, "--osrel=" + p.OSRelease, "--cmdline=" + p.Cmdline, "--initrd=" + p.Initramfs}
	if p.PolicyKey != "" {
		args = append(args, "--pcrpkey="+p.PolicyKey)
	}
	out, err := exec.Command(measureTool, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var said struct{ SHA256 []struct{ Hash string } }
	if err := json.Unmarshal(out, &said); err != nil || len(said.SHA256) != 1 {
		t.Fatalf("%s: %v", out, err)
	}
	return said.SHA256[0].Hash
}
