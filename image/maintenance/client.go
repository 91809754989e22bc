package maintenance

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// tooSoonTries is how often a client waits out the pause after somebody's wrong code.
const tooSoonTries = 10

// A Client speaks to a machine in maintenance.
type Client struct {
	host string // host:port
	code string
	http *http.Client
}

// NewClient makes a client of the machine at a host or host:port, whose certificate has the fingerprint that its console shows, and which
// shows that code.
func NewClient(host, print, code string) (*Client, error) {
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), Port)
	}
	want := strings.ToUpper(strings.TrimSpace(print))
	if len(want) != 95 {
		return nil, errors.New("the fingerprint is not 32 bytes in hexadecimal with colons between, as the console shows it")
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: "nfseal-maintenance",
		// The certificate is its own: it is known by its fingerprint, and by nothing else.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || subtle.ConstantTimeCompare([]byte(fingerprint(s.PeerCertificates[0].Raw)), []byte(want)) != 1 {
				return errors.New("the certificate has not the fingerprint that was given: this is another machine, or its console shows another one by now")
			}
			return nil
		},
	}
	return &Client{host: host, code: code, http: &http.Client{
		Transport: &http.Transport{TLSClientConfig: c, Proxy: nil, ForceAttemptHTTP2: false},
		Timeout:   2 * requestTime,
	}}, nil
}

// Close ends its connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks how the machine is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.do(ctx, http.MethodGet, statusPath, nil, &s)
}

// Configure gives the machine its configuration.
func (c *Client) Configure(ctx context.Context, text string) error {
	return c.do(ctx, http.MethodPut, configPath, struct{ Text string }{text}, nil)
}

// Install begins an installation.
func (c *Client) Install(ctx context.Context, r InstallRequest) error {
	return c.do(ctx, http.MethodPost, installPath, r, nil)
}

// Restart starts the machine again.
func (c *Client) Restart(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, restartPath, struct{}{}, nil)
}

// AwaitInstall waits for the end of an installation, whose progress it tells.
func (c *Client) AwaitInstall(ctx context.Context, tell func(Progress)) (Progress, error) {
	for {
		s, err := c.Status(ctx)
		if err != nil {
			return Progress{}, err
		}
		if s.Install.State != InstallWriting {
			return s.Install, nil
		}
		tell(s.Install)
		if err := wait(ctx, time.Second); err != nil {
			return s.Install, err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// do tries again where somebody else's wrong code is what stands in the way.
func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	for try := 0; ; try++ {
		err := c.once(ctx, method, path, body, into)
		if !errors.Is(err, ErrTooSoon) || try == tooSoonTries {
			return err
		}
		if err := wait(ctx, wrongPause); err != nil {
			return err
		}
	}
}

func (c *Client) once(ctx context.Context, method, path string, body, into any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, "https://"+c.host+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+c.code)
	answer, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("the machine in maintenance: %w", err)
	}
	defer answer.Body.Close()
	limited := io.LimitReader(answer.Body, maxAnswerBytes)
	switch answer.StatusCode {
	case http.StatusOK:
		if into == nil {
			return nil
		}
		return json.NewDecoder(limited).Decode(into)
	case http.StatusUnauthorized:
		return ErrCode
	case http.StatusTooManyRequests:
		return ErrTooSoon
	}
	var f failure
	if err := json.NewDecoder(limited).Decode(&f); err != nil || f.Error == "" {
		return fmt.Errorf("the machine in maintenance: %s", answer.Status)
	}
	return &Refusal{f.Error}
}
