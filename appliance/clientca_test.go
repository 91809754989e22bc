package appliance

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// TestClientCAs: a file without a CA is an error, not a daemon that lets everybody in.
func TestClientCAs(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := transporttest.NewCA(t)
	if pool, err := clientCAs(write("good", string(ca.PEM()))); err != nil || !pool.Equal(ca.Pool()) {
		t.Errorf("%v, %v", pool, err)
	}
	if pool, err := clientCAs(""); pool != nil || err != nil {
		t.Errorf("no file: %v, %v", pool, err)
	}
	for _, file := range []string{write("empty", ""), write("text", "no certificate"), filepath.Join(dir, "missing")} {
		if pool, err := clientCAs(file); pool != nil || err == nil {
			t.Errorf("%s: %v", file, pool)
		}
	}
}
