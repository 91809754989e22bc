package maintenance

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Paths of the API.
const (
	statusPath  = "/maintenance/v1/status"
	configPath  = "/maintenance/v1/configuration"
	installPath = "/maintenance/v1/install"
	restartPath = "/maintenance/v1/restart"
)

// A Server is the API of a machine that does not serve yet.
type Server struct {
	backend     Backend
	gate        *gate
	certificate tls.Certificate
}

// NewServer makes a certificate and a code.
func NewServer(b Backend) (*Server, error) {
	certificate, err := selfSigned(time.Now())
	if err != nil {
		return nil, fmt.Errorf("maintenance: %w", err)
	}
	return &Server{backend: b, gate: newGate(time.Now), certificate: certificate}, nil
}

// ShowCode tells the code now, and each one that follows it. shown must not call the server.
func (s *Server) ShowCode(shown func(code string)) { s.gate.show(shown) }

// selfSigned makes a key and its certificate, in memory alone.
func selfSigned(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	// A machine without a clock starts in the past.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nfseal maintenance"}, DNSNames: []string{"nfseal-maintenance"},
		NotBefore: now.Add(-certificateTime), NotAfter: now.Add(certificateTime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// Fingerprint is the SHA-256 of the certificate, as openssl and browsers write it.
func (s *Server) Fingerprint() string { return fingerprint(s.certificate.Certificate[0]) }

func fingerprint(der []byte) string {
	return strings.ReplaceAll(fmt.Sprintf("% X", sha256.Sum256(der)), " ", ":")
}

// Serve answers at a listener until the context ends, and then closes it.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: s.handler(), MaxHeaderBytes: maxHeaderBytes, ReadTimeout: requestTime, WriteTimeout: requestTime, IdleTimeout: idleTime,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{s.certificate}, MinVersion: tls.VersionTLS13},
		ErrorLog:  log.New(io.Discard, "", 0), // what strangers do wrong is not for the console
	}
	done := make(chan error, 1)
	go func() {
		done <- server.ServeTLS(&limited{Listener: l, free: make(chan struct{}, maxConnections)}, "", "")
	}()
	select {
	case err := <-done:
		return fmt.Errorf("maintenance: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	err := server.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-done
	return err
}

// handler asks for the code before anything else.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, s.answer(func(r *http.Request) (any, error) { return s.backend.Status(r.Context()) }))
	mux.HandleFunc("PUT "+configPath, s.answer(func(r *http.Request) (any, error) {
		var c struct{ Text string }
		if err := decode(r, &c); err != nil {
			return nil, err
		}
		return nil, s.backend.Configure(r.Context(), c.Text)
	}))
	mux.HandleFunc("POST "+installPath, s.answer(func(r *http.Request) (any, error) {
		var i InstallRequest
		if err := decode(r, &i); err != nil {
			return nil, err
		}
		return nil, s.backend.Install(r.Context(), i)
	}))
	mux.HandleFunc("POST "+restartPath, s.answer(func(r *http.Request) (any, error) { return nil, s.backend.Restart(r.Context()) }))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if err := s.gate.admit(code); err != nil {
			refuse(w, err)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func decode(r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBodyBytes))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return &Refusal{"the request is not understood: " + err.Error()}
	}
	return nil
}

func (s *Server) answer(do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, err := do(r)
		if err != nil {
			refuse(w, err)
			return
		}
		write(w, http.StatusOK, result)
	}
}

// failure is the body of an answer that is an error.
type failure struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var refusal *Refusal
	switch {
	case errors.Is(err, ErrCode):
		status = http.StatusUnauthorized
	case errors.Is(err, ErrTooSoon):
		status = http.StatusTooManyRequests
	case errors.As(err, &refusal):
		status = http.StatusBadRequest
	}
	write(w, status, failure{err.Error()})
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone needs no answer
}

// limited takes a connection when another one has ended.
type limited struct {
	net.Listener
	free chan struct{}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &counted{Conn: c, free: l.free}, nil
}

// counted gives its place back once.
type counted struct {
	net.Conn
	free   chan struct{}
	closed atomic.Bool
}

// Close implements net.Conn.
func (c *counted) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		<-c.free
	}
	return c.Conn.Close()
}
