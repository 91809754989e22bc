package appliance

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// Everybody gets the CA's certificate where the OCSP responder is.
func TestCAOverTheNetwork(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	get := func(method, path string) *http.Response {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, strings.TrimSuffix(r.o.OCSPURL(), ocspPath)+path, nil)
		check(t, err)
		answer, err := http.DefaultClient.Do(request)
		check(t, err)
		t.Cleanup(func() { answer.Body.Close() })
		return answer
	}
	answer := get(http.MethodGet, "/ca.pem")
	got, err := io.ReadAll(answer.Body)
	check(t, err)
	want, err := os.ReadFile(r.dir.caFile())
	check(t, err)
	if answer.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
		t.Errorf("status %d: %q, not %q", answer.StatusCode, got, want)
	}
	for _, other := range []string{"/ca.json", "/pki/ca.pem", "/"} {
		if answer := get(http.MethodGet, other); answer.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d", other, answer.StatusCode)
		}
	}
	if answer := get(http.MethodPost, "/ca.pem"); answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", answer.StatusCode)
	}
}
