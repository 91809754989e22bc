package api

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/oidc"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Recorder is where calls are recorded: an audit.Log.
type Recorder interface {
	// Append returns nil when e is on stable storage.
	Append(e audit.Event) error
}

// Options says what a Server is made of.
type Options struct {
	Backend Backend
	Audit   Recorder
	Keys    *kms.Keys // of the KMS API; nil: it is not served
	// Upgrades takes bundles with another version; nil where that is the business of others, as of a package manager.
	Upgrades Upgrades
	// Identities are the providers whose web identity tokens are believed; nil: none.
	Identities *oidc.Providers
	// Configurations keeps the configuration file; nil where there is none.
	Configurations Configurations
	Log            *zap.Logger // default: nothing is logged
	Region         string
	Clock          func() time.Time // default time.Now
}

// EnsureDefaults fills in what was left zero.
func (o *Options) EnsureDefaults() {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
}

// Validate says what is missing.
func (o *Options) Validate() error {
	switch {
	case o.Backend == nil:
		return errors.New("api: no backend given")
	case o.Audit == nil:
		return errors.New("api: no audit log given")
	case o.Region == "":
		return errors.New("api: no region given")
	}
	return nil
}

// Server answers the API.
type Server struct {
	o        Options
	own      *http.ServeMux // what belongs to no API of AWS
	http     *http.Server   // of the local socket
	front    *http.Server   // of the front door
	throttle throttle       // of principals
	unsigned throttle       // of addresses whose calls are not signed
}

// New returns a Server.
func New(o Options) (*Server, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Server{o: o, throttle: newThrottle(callsASecond, callBurst), unsigned: newThrottle(unsignedASecond, unsignedBurst)}
	s.own = s.ownMux()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Backend.Metrics(), promhttp.HandlerOpts{}))
	mux.HandleFunc(efsPath, s.efs)
	mux.HandleFunc("POST /{$}", s.kms)
	mux.Handle(ownPath, s.own)
	mux.HandleFunc("/", unknown)
	s.http, s.front = s.newHTTP(mux), s.newHTTP(http.HandlerFunc(s.door))
	s.http.ConnContext = withPeer
	return s, nil
}

func (s *Server) newHTTP(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadTimeout:       readTimeout,
		ReadHeaderTimeout: readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          zap.NewStdLog(s.o.Log),
	}
}

// Handler is what Serve serves.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// FrontDoor is what ServeFront serves.
func (s *Server) FrontDoor() http.Handler { return s.front.Handler }

// Listen opens the unix socket at path, mode 0600, replacing what an earlier process left there.
// The caller holds the data directory's lock, so no other process serves it.
func Listen(path string) (net.Listener, error) {
	if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("api: socket %s can't be replaced: %w", path, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if err := unix.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("api: mode of %s: %w", path, err), l.Close())
	}
	return l, nil
}

// Serve answers on l, which it closes, until Close. It returns nil then.
func (s *Server) Serve(l net.Listener) error { return serve(s.http, newLimited(l, maxConnections)) }

// ServeFront answers signed requests from afar on l, which it closes, over TLS with certificates of
// certificate, until Close. It returns nil then.
func (s *Server) ServeFront(l net.Listener, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) error {
	return serve(s.front, tls.NewListener(newLimited(l, maxConnections), &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: certificate, NextProtos: []string{"http/1.1"},
	}))
}

func serve(h *http.Server, l net.Listener) error {
	err := h.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("api: %w", err)
}

// Close ends Serve and ServeFront and waits for the calls under way, but not for ever.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	var errs []error
	for _, h := range []*http.Server{s.front, s.http} {
		if err := h.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("api: calls were cut off: %w", err), h.Close())
		}
	}
	return errors.Join(errs...)
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	if err := s.o.Backend.Healthy(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// efs answers the EFS API, and the operations beside it that change something.
func (s *Server) efs(w http.ResponseWriter, r *http.Request) {
	status, body, err := s.call(r, named(w))
	answer(w, status, body, err)
}

// named is the id of a request, which its answer shows.
func named(w http.ResponseWriter) (requestID string) {
	if requestID = w.Header().Get(requestIDHeader); requestID == "" {
		requestID = newRequestID()
		w.Header().Set(requestIDHeader, requestID)
	}
	return requestID
}

const requestIDHeader = "X-Amzn-Requestid"

// answer writes what an operation gave.
func answer(w http.ResponseWriter, status int, body any, err error) {
	switch {
	case err != nil:
		writeError(w, asError(err))
	case body == nil:
		w.WriteHeader(status)
	default:
		writeJSON(w, status, body)
	}
}

// call does one operation of the EFS API.
func (s *Server) call(r *http.Request, requestID string) (status int, body any, err error) {
	op, found := route(r)
	if !found {
		return 0, nil, unknownOperation(r)
	}
	source := "elasticfilesystem"
	if strings.HasPrefix(r.URL.Path, ownPath) {
		source = "nfseal"
	}
	return s.perform(r, newEvent(r, source, op.name, requestID), op)
}

// newEvent is the record of a call, without its parameters.
func newEvent(r *http.Request, source, name, requestID string) audit.Event {
	e := audit.Event{
		Source: source, Name: name, RequestID: requestID, Address: peerAddress(r), Parameters: map[string]string{},
	}
	if c := callerOf(r.Context()); c != nil {
		e.Identity = audit.Identity{Type: c.Type, Principal: c.Principal.ARN, AccessKeyID: c.KeyID}
	} else {
		e.Identity = audit.Identity{Type: "LocalUser", Principal: peerOf(r)}
	}
	return e
}

// perform does one operation: understand, judge, record, carry out, and record a failure.
func (s *Server) perform(r *http.Request, event audit.Event, op efsOperation) (status int, body any, err error) {
	do, err := op.handle(s, r, event.Parameters)
	if err == nil {
		err = s.authorize(r, &event)
	}
	if recordErr := s.record(&event, err); recordErr != nil {
		return 0, nil, recordErr
	}
	if err != nil {
		return 0, nil, err
	}
	status, body, err = do(r)
	if err != nil {
		err = errors.Join(s.record(&event, err), err)
	}
	return status, body, err
}

// record puts a call on record, with its failure if there was one.
func (s *Server) record(event *audit.Event, failure error) error {
	e := *event
	if failure != nil {
		known := asError(failure)
		e.ErrorCode, e.ErrorMessage = known.Code, clip(known.Message)
	}
	if err := s.o.Audit.Append(e); err != nil {
		s.o.Log.Error("API call can't be recorded", zap.String("call", e.Name), zap.Error(err))
		return &Error{
			Status: http.StatusInternalServerError, Code: "InternalServerError",
			Message: "the call was refused because it can't be recorded in the audit log",
		}
	}
	return nil
}

func newRequestID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	h := hex.EncodeToString(b[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

type peerKey struct{}

// withPeer notes who is at the other end of a unix socket.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if l, ok := conn.(*limitedConn); ok {
		conn = l.Conn
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return ctx
	}
	var peer *unix.Ucred
	if err := raw.Control(func(fd uintptr) {
		peer, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || peer == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, "uid="+strconv.FormatUint(uint64(peer.Uid), 10)+
		" gid="+strconv.FormatUint(uint64(peer.Gid), 10)+" pid="+strconv.Itoa(int(peer.Pid)))
}

// peerOf is who made the request: its uid, gid and process, as the kernel knows them.
func peerOf(r *http.Request) string {
	peer, _ := r.Context().Value(peerKey{}).(string)
	if peer == "" {
		return "unknown"
	}
	return peer
}
