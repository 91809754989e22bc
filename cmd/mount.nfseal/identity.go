package main

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/tunnel"
)

// identity is what the client says of itself to the server: without it, it is anonymous.
type identity struct {
	FileSystem  string `json:"file_system"`
	AccessPoint string `json:"access_point,omitempty"`
	Region      string `json:"region"`
	// Credentials is the path of the file with the access key, "" for none. It is read anew for each
	// connection, so that a changed key is used.
	Credentials string `json:"credentials,omitempty"`
	Profile     string `json:"profile,omitempty"`
}

// certificate makes one for a connection now.
func (i *identity) certificate() (*tls.Certificate, error) {
	who := transport.ClientIdentity{
		FileSystem: i.FileSystem, AccessPoint: i.AccessPoint, Region: i.Region, Source: "mount.nfseal", Version: version,
	}
	if i.Credentials != "" {
		c, err := readCredentials(i.Credentials, i.Profile)
		if err != nil {
			return nil, err
		}
		who.AccessKeyID, who.SecretAccessKey, who.SessionToken = c.keyID, c.secret, c.token
	}
	return who.Certificate(time.Now())
}

// dial connects to the server with a fresh certificate, if the client has something to say.
func (s *settings) dial(ctx context.Context, o transport.ClientOptions) (tunnel.Conn, error) {
	if s.Identity != nil {
		var err error
		if o.Certificate, err = s.Identity.certificate(); err != nil {
			return nil, err
		}
	}
	conn, err := transport.Dial(ctx, s.Target, o)
	if err != nil {
		return nil, err
	}
	return conn, nil
}
