package forward

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// Targets say where records go; what is empty is not sent to.
type Targets struct {
	// Syslog is unix:PATH, udp:HOST:PORT, tcp:HOST:PORT or tls:HOST:PORT.
	Syslog string
	// SyslogCAFile is a PEM file of the CAs that the receiver's certificate may come from; those of the system if it is "".
	SyslogCAFile string
	// File is the path of a file that records are appended to as JSON, one a line.
	File string
}

// Validate says what is wrong with t.
func (t *Targets) Validate() error {
	if t.Syslog != "" {
		if _, _, err := ParseSyslog(t.Syslog); err != nil {
			return err
		}
	}
	if t.SyslogCAFile != "" && !strings.HasPrefix(t.Syslog, "tls:") {
		return errors.New("audit: CAs of a syslog receiver are for one at tls:HOST:PORT")
	}
	if t.File != "" && !filepath.IsAbs(t.File) {
		return fmt.Errorf("audit: records can't be forwarded to the file %q: it is no path that begins with /", t.File)
	}
	return nil
}

// Kind is one of the places that records go to.
type Kind string

// The kinds.
const (
	Syslog Kind = "syslog"
	File   Kind = "file"
)

// Kinds are those that t has a place for.
func (t *Targets) Kinds() []Kind {
	var list []Kind
	for _, k := range []Kind{Syslog, File} {
		if t.of(k) != "" {
			list = append(list, k)
		}
	}
	return list
}

// of is the place for a kind.
func (t *Targets) of(k Kind) string {
	switch k {
	case Syslog:
		return t.Syslog
	case File:
		return t.File
	}
	return ""
}

// ParseSyslog takes the place of a receiver apart: the transport, which is unix, udp, tcp or tls, and the path of the socket or host:port.
func ParseSyslog(s string) (transport, address string, err error) {
	transport, address, _ = strings.Cut(s, ":")
	switch transport {
	case "unix":
		if !filepath.IsAbs(address) {
			return "", "", fmt.Errorf("audit: %q names no socket for syslog: write unix:/dev/log", s)
		}
		return transport, address, nil
	case "udp", "tcp", "tls":
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" {
			return "", "", fmt.Errorf("audit: %q names no receiver of syslog: write %s:HOST:PORT", s, transport)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", "", fmt.Errorf("audit: %q of a receiver of syslog is no port", port)
		}
		return transport, address, nil
	}
	return "", "", fmt.Errorf("audit: %q is no receiver of syslog: write unix:/dev/log, udp:HOST:PORT, tcp:HOST:PORT or tls:HOST:PORT", s)
}
