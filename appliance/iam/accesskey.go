package iam

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"regexp"
	"time"
)

// Secret is a secret access key. Every formatter hides it.
type Secret struct{ text string }

// NewSecret takes the text of a secret access key.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text, to be shown once or sealed.
func (s Secret) Reveal() string { return s.text }

// String hides the secret.
func (Secret) String() string { return "[secret access key]" }

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// Format is String, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// MarshalJSON is String in quotes.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// NewAccessKey makes a random access key: an id of the shape that AWS gives those of users, AKIA and
// 16 letters and digits, and 240 random bits as its secret.
func NewAccessKey() (id string, secret Secret) {
	var name [10]byte
	var key [30]byte
	rand.Read(name[:]) // never fails (crypto/rand)
	rand.Read(key[:])
	id = "AKIA" + base32.StdEncoding.EncodeToString(name[:])
	return id, Secret{base64.StdEncoding.EncodeToString(key[:])}
}

// UserID is the unique id of the user of a name that was made at a time: AIDA and 17 letters and digits, as AWS gives
// users. A user that is made again under the name has another.
func UserID(name string, created time.Time) string { return "AIDA" + uniqueID("user", name, created) }

// RoleID is the same for a role: AROA and 17 letters and digits.
func RoleID(name string, created time.Time) string { return "AROA" + uniqueID("role", name, created) }

func uniqueID(kind, name string, created time.Time) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + name + "\x00" + created.UTC().Format(time.RFC3339Nano)))
	return base32.StdEncoding.EncodeToString(sum[:])[:17]
}

var (
	keyIDPattern = regexp.MustCompile(`^[A-Z0-9]{16,128}$`)
	userPattern  = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,64}$`)
	policyName   = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,128}$`)
)

// ValidKeyID says whether id has the shape of an access key id.
func ValidKeyID(id string) bool { return keyIDPattern.MatchString(id) }

// ValidUser says whether name can be a user's, or a role's.
func ValidUser(name string) bool { return userPattern.MatchString(name) }

// ValidPolicyName says whether name can be that of a policy of a user or role.
func ValidPolicyName(name string) bool { return policyName.MatchString(name) }
