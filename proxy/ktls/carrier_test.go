package ktls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/proxy/tlsrecord"
	"github.com/nfseal/nfseal/proxy/tlsrecord/sessiontest"
)

// keysFor runs a handshake and gives our end's keys; the peer echoes.
func keysFor(t *testing.T, version uint16, a, b net.Conn) *tlsrecord.Keys {
	t.Helper()
	server, client := sessiontest.Configs(t, version)
	go func() {
		conn := tls.Client(b, client)
		io.Copy(conn, conn)
	}()
	k, err := tlsrecord.ServerKeys(t.Context(), a, server)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestWhoCarries: for each combination of setting, kernel and session there is one answer, it is counted, and
// the session works.
func TestWhoCarries(t *testing.T) {
	none := Support{Err: errors.New("this kernel has none")}
	const v12, v13 = tls.VersionTLS12, tls.VersionTLS13
	for name, c := range map[string]struct {
		o       Options
		support Support
		version uint16
		pipe    bool
		reason  Reason
	}{
		"off":                {Options{Use: UseOff}, none, v12, false, ReasonOff},
		"none":               {Options{Use: UseAuto}, none, v12, false, ReasonNoKernel},
		"none, 1.3":          {Options{Use: UseAuto}, none, v13, false, ReasonNoKernel},
		"none, 1.3, renews":  {Options{Use: UseAuto, Renew: true}, none, v13, false, ReasonNoKernel},
		"1.2 alone":          {Options{Use: UseAuto}, Support{TLS12: true}, v13, false, ReasonNoKernel},
		"no new keys":        {Options{Use: UseAuto}, Support{TLS12: true, TLS13: true}, v13, false, ReasonNoRekey},
		"no new keys, on":    {Options{Use: UseOn}, Support{TLS12: true, TLS13: true}, v13, false, ReasonNoRekey},
		"slow":               {Options{Use: UseAuto}, Support{TLS12: true, Slow: true}, v12, false, ReasonSlow},
		"slow, without 1.3":  {Options{Use: UseAuto}, Support{TLS12: true, Slow: true}, v13, false, ReasonNoKernel},
		"a pipe":             {Options{Use: UseAuto}, Support{TLS12: true}, v12, true, ReasonNotTCP},
		"the setting first":  {Options{Use: UseOff}, Support{TLS12: true}, v12, true, ReasonOff},
		"a pipe of TLS 1.3":  {Options{Use: UseAuto}, Support{TLS12: true, TLS13: true, Rekey: true}, v13, true, ReasonNotTCP},
		"a pipe, and renews": {Options{Use: UseAuto, Renew: true}, Support{TLS12: true, TLS13: true}, v13, true, ReasonNotTCP},
	} {
		t.Run(name, func(t *testing.T) {
			carrier := &Carrier{o: c.o, support: c.support}
			a, b := net.Pipe()
			if !c.pipe {
				x, y := sessiontest.Wire(t)
				a, b = x, y
			}
			defer a.Close()
			s, err := carrier.Carry(keysFor(t, c.version, a, b))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			want := Stats{}
			want.User[c.reason] = 1
			if got := carrier.Stats(); got != want {
				t.Errorf("%+v, want reason %v", got, c.reason)
			}
			echo(t, s)
		})
	}
}

func echo(t *testing.T, s Session) {
	t.Helper()
	got := make([]byte, 5)
	if _, err := s.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestRefusedByTheKernel: a kernel that takes a session after all not is counted, and the session goes on.
func TestRefusedByTheKernel(t *testing.T) {
	if Probe().Err == nil {
		t.Skip("this kernel has TLS (runs on one that has none: make test)")
	}
	carrier := &Carrier{o: Options{Use: UseAuto}, support: Support{TLS12: true}}
	a, b := sessiontest.Wire(t)
	s, err := carrier.Carry(keysFor(t, tls.VersionTLS12, a, b))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := carrier.Stats(); got.User[ReasonRefused] != 1 || got.Kernel != 0 {
		t.Errorf("%+v", got)
	}
	echo(t, s)
}

// TestNilCarrier: without one, user space carries.
func TestNilCarrier(t *testing.T) {
	a, b := sessiontest.Wire(t)
	s, err := (*Carrier)(nil).Carry(keysFor(t, tls.VersionTLS12, a, b))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	echo(t, s)
	if got := (*Carrier)(nil).Stats(); got != (Stats{}) {
		t.Errorf("%+v", got)
	}
}

// TestSettings: what is none is refused, and on is refused in words where the kernel can't.
func TestSettings(t *testing.T) {
	if _, err := New(Options{Use: "sometimes"}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	for _, use := range []Use{"", UseAuto, UseOff} {
		if _, err := New(Options{Use: use}); err != nil {
			t.Error(err)
		}
	}
	_, err := New(Options{Use: UseOn})
	if got := Probe().Err; (got == nil) != (err == nil) || got != nil && !errors.Is(err, got) {
		t.Errorf("on: %v, where the kernel says %v", err, got)
	}
	t.Log(Probe())
}

// TestGCMDriver: the kernel's best implementation is found, and those in C are told from the others.
func TestGCMDriver(t *testing.T) {
	table := func(lines ...string) string {
		var text strings.Builder
		for _, line := range lines {
			f := strings.Fields(line)
			fmt.Fprintf(&text, "name         : %s\ndriver       : %s\nmodule       : kernel\npriority     : %s\n\n", f[0], f[1], f[2])
		}
		return text.String()
	}
	for name, c := range map[string]struct {
		table, driver string
		generic       bool
	}{
		"nothing":      {"", "", false},
		"another only": {table("ctr(aes) ctr(aes-generic) 100"), "", false},
		"in C":         {table("ghash ghash-generic 100", "gcm(aes) gcm_base(ctr(aes-generic),ghash-generic) 100"), "gcm_base(ctr(aes-generic),ghash-generic)", true},
		"AES-NI":       {table("gcm(aes) gcm_base(ctr(aes-generic),ghash-generic) 100", "gcm(aes) generic-gcm-aesni 400"), "generic-gcm-aesni", false},
		"VAES":         {table("gcm(aes) generic-gcm-vaes-avx2 700", "gcm(aes) generic-gcm-aesni 400", "aes aes-generic 100"), "generic-gcm-vaes-avx2", false},
		"in parts":     {table("gcm(aes) gcm_base(ctr-aes-aesni,ghash-clmulni) 300"), "gcm_base(ctr-aes-aesni,ghash-clmulni)", false},
		"no number":    {"name : gcm(aes)\ndriver : x\npriority : high\n", "", false},
	} {
		if got := gcmDriver(strings.NewReader(c.table)); got != c.driver || isGeneric(got) != c.generic {
			t.Errorf("%s: %q, generic %v", name, got, isGeneric(got))
		}
	}
}
