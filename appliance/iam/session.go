package iam

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nfseal/nfseal/appliance/policy"
)

// ErrExpired says that temporary credentials are past their end.
var ErrExpired = errors.New("iam: the security token included in the request is expired")

// Session is what temporary credentials stand for. A session token holds it, sealed by whoever gives tokens
// out: nothing of it is kept.
type Session struct {
	KeyID  string
	Secret Secret
	// Role is the name of the role that was assumed, "" for a session of a user; Name is what the
	// session was called.
	Role, Name string
	// User is the name of the user whose session it is, and Source the access key that asked for it: the
	// session ends with that key. Both are "" for a role's.
	User, Source string
	// HolderID is the unique id of the role or user: one that is made again under the name has another.
	HolderID        string
	Issued, Expires time.Time // to the second
	// Policy limits the session; "" for none.
	Policy string
	// Provider is the ARN of the identity provider whose token began a role's session; "" for none.
	Provider string
}

// sessionText is a Session as a token holds it.
type sessionText struct {
	Key     string `json:"k"`
	Secret  string `json:"s"`
	Role    string `json:"r,omitempty"`
	Name    string `json:"n,omitempty"`
	User    string `json:"u,omitempty"`
	Source  string `json:"o,omitempty"`
	Holder  string `json:"h"`
	Issued  int64  `json:"i"` // seconds
	Expires int64  `json:"e"`
	Policy  string `json:"p,omitempty"`
	// Provider has no place in tokens of versions without it, which pass it over.
	Provider string `json:"f,omitempty"`
}

// NewKey gives s a random access key, of the shape that AWS gives temporary ones: ASIA and 16 letters
// and digits.
func (s *Session) NewKey() {
	var name [10]byte
	rand.Read(name[:]) // never fails (crypto/rand)
	_, s.Secret = NewAccessKey()
	s.KeyID = "ASIA" + base32.StdEncoding.EncodeToString(name[:])
}

// Encode returns s with its secret, to be sealed and wiped.
func (s *Session) Encode() ([]byte, error) {
	return json.Marshal(sessionText{
		s.KeyID, s.Secret.text, s.Role, s.Name, s.User, s.Source, s.HolderID, s.Issued.Unix(), s.Expires.Unix(), s.Policy, s.Provider,
	})
}

// DecodeSession is the inverse of Encode.
func DecodeSession(text []byte) (*Session, error) {
	var t sessionText
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, fmt.Errorf("iam: a session can't be read: %w", err)
	}
	return &Session{
		t.Key, Secret{t.Secret}, t.Role, t.Name, t.User, t.Source, t.Holder, time.Unix(t.Issued, 0).UTC(), time.Unix(t.Expires, 0).UTC(), t.Policy,
		t.Provider,
	}, nil
}

// Token is sealed in the form in which clients carry it.
func Token(sealed []byte) string { return base64.RawURLEncoding.EncodeToString(sealed) }

// OpenToken is what was sealed in a token; ErrUnknownKey if it has not the form of one.
func OpenToken(token string) ([]byte, error) {
	if len(token) > maxTokenChars {
		return nil, ErrUnknownKey
	}
	sealed, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return nil, ErrUnknownKey
	}
	return sealed, nil
}

// ParseSessionPolicy understands the policy that limits a session; policy.ErrMalformed.
func ParseSessionPolicy(text string) (*policy.Document, error) {
	if len(text) > MaxSessionPolicyBytes {
		return nil, fmt.Errorf("%w: the policy of a session may have %d bytes", policy.ErrMalformed, MaxSessionPolicyBytes)
	}
	return policy.Parse(policy.Identity, text)
}

var sessionPattern = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{2,64}$`)

// ValidSessionName says whether a role's session can be called name.
func ValidSessionName(name string) bool { return sessionPattern.MatchString(name) }
