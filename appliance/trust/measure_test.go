package trust

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"testing"
)

// What systemd-measure 252 has signed is read as it was meant: testdata has the output of
//
//	systemd-measure sign --linux=a --osrel=a --cmdline=a --initrd=a --pcrpkey=measure-key.pem --phase= --bank=sha256 …
//
// where the file a holds that letter.
func TestSignaturesOfSystemd(t *testing.T) {
	const keyFile = "testdata/measure-key.pem"
	key, err := readPolicyKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	all, err := readSignatures("testdata/measure-signatures.json", key)
	if err != nil || len(all) != 1 || len(all[0].PCRs) != 1 || all[0].PCRs[0] != 11 {
		t.Fatalf("%+v, %v", all, err)
	}
	text, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	pcr := make([]byte, sha256.Size)
	for _, section := range []struct{ name, content string }{
		{".linux", "a"}, {".osrel", "a"}, {".cmdline", "a"}, {".initrd", "a"}, {".pcrpkey", string(text)},
	} {
		for _, event := range []string{section.name + "\x00", section.content} {
			of := sha256.Sum256([]byte(event))
			next := sha256.Sum256(append(pcr, of[:]...))
			pcr = next[:]
		}
	}
	policy, err := pcrPolicy{{11, pcr}}.digest()
	if err != nil || hex.EncodeToString(policy) != all[0].Policy {
		t.Errorf("the policy is %x, and systemd-measure says %s, %v", policy, all[0].Policy, err)
	}
	sum := sha256.Sum256(policy)
	if err := rsa.VerifyPKCS1v15(key.rsa, crypto.SHA256, sum[:], all[0].Signature); err != nil {
		t.Error(err)
	}
}
