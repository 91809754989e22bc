package xts

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
)

// evp is OpenSSL's EVP interface to AES-256-XTS, through Debian's python3-cryptography: it reads
// lines "key tweak plaintext" and writes ciphertexts, all in hexadecimal.
const evp = `
import sys
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
for line in sys.stdin:
    key, tweak, plain = (bytes.fromhex(word) for word in line.split())
    e = Cipher(algorithms.AES(key), modes.XTS(tweak)).encryptor()
    print((e.update(plain) + e.finalize()).hex())
`

// TestAgainstOpenSSL compares single data units of 512, 4096 and 65536 bytes, and ones that end in a
// stolen block, in both directions.
func TestAgainstOpenSSL(t *testing.T) {
	const python = "/usr/bin/python3"
	if out, err := exec.Command(python, "-c", "import cryptography").CombinedOutput(); err != nil {
		t.Skipf("%s has no cryptography (runs where scripts/deps.sh has run: make test, .ci/run): %s", python, out)
	}
	r := rand.New(rand.NewPCG(31, 32))
	type unit struct {
		key, plain []byte
		number     Unit
	}
	var units []unit
	var lines strings.Builder
	for _, n := range []int{16, 17, 31, 512, 520, 4096, 4111, 65536} {
		for range 3 {
			u := unit{testKey(r), randomBytes(r, n), Unit{Hi: r.Uint64(), Lo: r.Uint64()}}
			var tweak [16]byte
			binary.LittleEndian.PutUint64(tweak[:], u.number.Lo)
			binary.LittleEndian.PutUint64(tweak[8:], u.number.Hi)
			units = append(units, u)
			fmt.Fprintf(&lines, "%x %x %x\n", u.key, tweak, u.plain)
		}
	}
	cmd := exec.Command(python, "-c", evp)
	cmd.Stdin = strings.NewReader(lines.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := strings.Fields(string(out))
	if len(answers) != len(units) {
		t.Fatalf("%d answers to %d questions", len(answers), len(units))
	}
	eachPath(t, func(t *testing.T, p path) {
		for i, u := range units {
			want, err := hex.DecodeString(answers[i])
			if err != nil {
				t.Fatal(err)
			}
			c := mustOpen(t, u.key, p)
			got := make([]byte, len(u.plain))
			c.Encrypt(got, u.plain, max(512, len(u.plain)), u.number)
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes: ciphertext differs from OpenSSL's", len(u.plain))
			}
			if c.Decrypt(got, want, max(512, len(u.plain)), u.number); !bytes.Equal(got, u.plain) {
				t.Errorf("%d bytes: plaintext differs", len(u.plain))
			}
		}
	})
}
