package iam

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Why a request is not what its signer sent, or not now.
var (
	// ErrUnsigned says that the request carries no signature at all.
	ErrUnsigned = errors.New("iam: the request is not signed")
	// ErrIncomplete says that a part of the signature is missing or malformed.
	ErrIncomplete = errors.New("iam: the signature is incomplete")
	// ErrSignature says that the request was changed, or signed with another secret.
	ErrSignature = errors.New("iam: the request signature does not match: check the secret access key and the signing method")
	// ErrUnknownKey says that nobody has the access key, or not with such a session token.
	ErrUnknownKey = errors.New("iam: the access key is not known")
	// ErrTime says that the request is too old, or from the future.
	ErrTime = errors.New("iam: signature expired")
)

// Signature is a signature of version 4 as it stands in a request, in its header or its query (IAM User
// Guide, "AWS Signature Version 4 for API requests"). It proves nothing before Verify.
type Signature struct {
	KeyID   string
	Date    string // of the scope, YYYYMMDD
	Region  string
	Service string
	// Token is the session token, "" for a user's own key.
	Token string

	time      time.Time
	expires   time.Duration // of a presigned request, else 0
	presigned bool
	headers   []string // signed, in lower case, in order
	digest    []byte
}

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeLayout = "20060102T150405Z"
	dateLayout = "20060102"
)

// ParseSignature finds the signature of r. Its errors are ErrUnsigned and ErrIncomplete.
func ParseSignature(r *http.Request) (*Signature, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("%w: the query can't be read", ErrIncomplete)
	}
	header := r.Header.Values("Authorization")
	switch {
	case len(header) > 0 && query.Has("X-Amz-Signature"), len(header) > 1:
		return nil, fmt.Errorf("%w: there is more than one", ErrIncomplete)
	case len(header) == 1:
		return parseHeader(r, header[0])
	case query.Has("X-Amz-Signature") || query.Has("X-Amz-Credential"):
		return parseQuery(query)
	}
	return nil, ErrUnsigned
}

func parseHeader(r *http.Request, authorization string) (*Signature, error) {
	rest, ok := strings.CutPrefix(authorization, algorithm+" ")
	if !ok {
		return nil, fmt.Errorf("%w: Authorization must begin with %s", ErrIncomplete, algorithm)
	}
	parts := make(map[string]string, 3)
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := parts[name]; twice {
			return nil, fmt.Errorf("%w: Authorization has a part twice", ErrIncomplete)
		}
		parts[name] = value
	}
	s := &Signature{Token: r.Header.Get("X-Amz-Security-Token")}
	return s, s.read(parts["Credential"], r.Header.Get("X-Amz-Date"), parts["SignedHeaders"], parts["Signature"])
}

func parseQuery(query url.Values) (*Signature, error) {
	for name, values := range query {
		if strings.HasPrefix(name, "X-Amz-") && len(values) > 1 {
			return nil, fmt.Errorf("%w: the query has a part of it twice", ErrIncomplete)
		}
	}
	if query.Get("X-Amz-Algorithm") != algorithm {
		return nil, fmt.Errorf("%w: X-Amz-Algorithm must be %s", ErrIncomplete, algorithm)
	}
	seconds, err := strconv.Atoi(query.Get("X-Amz-Expires"))
	if err != nil || seconds < 1 || seconds > maxExpirySeconds {
		return nil, fmt.Errorf("%w: X-Amz-Expires must be 1 to %d seconds", ErrIncomplete, maxExpirySeconds)
	}
	s := &Signature{
		Token: query.Get("X-Amz-Security-Token"), presigned: true, expires: time.Duration(seconds) * time.Second,
	}
	return s, s.read(query.Get("X-Amz-Credential"), query.Get("X-Amz-Date"),
		query.Get("X-Amz-SignedHeaders"), query.Get("X-Amz-Signature"))
}

// read takes the parts that both forms have.
func (s *Signature) read(credential, date, headers, digest string) (err error) {
	scope := strings.Split(credential, "/")
	if len(scope) != 5 || scope[4] != terminator || !keyIDPattern.MatchString(scope[0]) || slices.Contains(scope, "") {
		return fmt.Errorf("%w: Credential must be key/date/region/service/%s", ErrIncomplete, terminator)
	}
	s.KeyID, s.Date, s.Region, s.Service = scope[0], scope[1], scope[2], scope[3]
	if s.time, err = time.Parse(timeLayout, date); err != nil {
		return fmt.Errorf("%w: X-Amz-Date must look like %s", ErrIncomplete, timeLayout)
	}
	if s.time.Format(dateLayout) != s.Date {
		return fmt.Errorf("%w: the date of Credential is not that of X-Amz-Date", ErrIncomplete)
	}
	s.headers = strings.Split(headers, ";")
	if !slices.IsSorted(s.headers) || len(s.headers) > maxSignedHeaders || strings.ToLower(headers) != headers {
		return fmt.Errorf("%w: SignedHeaders must be in order and in lower case", ErrIncomplete)
	}
	if s.digest, err = hex.DecodeString(digest); err != nil || len(s.digest) != sha256.Size {
		return fmt.Errorf("%w: Signature must be %d hexadecimal digits", ErrIncomplete, 2*sha256.Size)
	}
	return nil
}

// Verify says whether the holder of secret signed r with this body, for about now. Its errors are
// ErrTime, ErrIncomplete and ErrSignature; it takes no longer for one wrong secret than for another.
func (s *Signature) Verify(r *http.Request, body []byte, secret Secret, now time.Time) error {
	sum := sha256.Sum256(body)
	return s.verify(r, hex.EncodeToString(sum[:]), secret, now)
}

// UnsignedPayload as X-Amz-Content-Sha256 says that the signature is not over the body (Amazon S3 API Reference,
// Signature Calculations).
const UnsignedPayload = "UNSIGNED-PAYLOAD"

// VerifyHead is Verify for a request whose body is not signed and has a proof of its own. Its X-Amz-Content-Sha256 has to
// be UnsignedPayload.
func (s *Signature) VerifyHead(r *http.Request, secret Secret, now time.Time) error {
	if r.Header.Get("X-Amz-Content-Sha256") != UnsignedPayload {
		return fmt.Errorf("%w: X-Amz-Content-Sha256 is not %s", ErrSignature, UnsignedPayload)
	}
	return s.verify(r, UnsignedPayload, secret, now)
}

// verify checks a signature over head and payload, which is what X-Amz-Content-Sha256 may say.
func (s *Signature) verify(r *http.Request, payload string, secret Secret, now time.Time) error {
	if err := s.timely(now); err != nil {
		return err
	}
	if err := s.covers(r); err != nil {
		return err
	}
	if said := r.Header.Get("X-Amz-Content-Sha256"); said != "" && said != payload {
		return fmt.Errorf("%w: X-Amz-Content-Sha256 is not that of the body", ErrSignature)
	}
	canonical := sha256.Sum256(s.canonical(r, payload))
	text := strings.Join([]string{
		algorithm, s.time.Format(timeLayout), strings.Join([]string{s.Date, s.Region, s.Service, terminator}, "/"),
		hex.EncodeToString(canonical[:]),
	}, "\n")
	key := []byte("AWS4" + secret.text)
	for _, part := range []string{s.Date, s.Region, s.Service, terminator, text} {
		next := authenticate(key, part)
		clear(key)
		key = next
	}
	if !hmac.Equal(key, s.digest) {
		return ErrSignature
	}
	return nil
}

func authenticate(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text)) // never fails (hash.Hash)
	return h.Sum(nil)
}

func (s *Signature) timely(now time.Time) error {
	begin, end := s.time.Add(-maxSkew), s.time.Add(maxSkew)
	if s.presigned {
		end = s.time.Add(s.expires)
	}
	if now.Before(begin) || now.After(end) {
		return fmt.Errorf("%w: %s is not within %v of the time here, %s", ErrTime,
			s.time.Format(timeLayout), max(maxSkew, s.expires), now.UTC().Format(timeLayout))
	}
	return nil
}

// covers sees that nothing that changes the meaning of a request is unsigned: the host and all that
// begins with x-amz-.
func (s *Signature) covers(r *http.Request) error {
	if !slices.Contains(s.headers, "host") {
		return fmt.Errorf("%w: SignedHeaders must have host", ErrIncomplete)
	}
	for name := range r.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-") && !slices.Contains(s.headers, lower) {
			return fmt.Errorf("%w: the header %s is not signed", ErrSignature, lower)
		}
	}
	return nil
}

// canonical is the canonical request.
func (s *Signature) canonical(r *http.Request, payload string) []byte {
	var b bytes.Buffer
	b.WriteString(r.Method + "\n" + canonicalPath(r.URL) + "\n" + canonicalQuery(r.URL.RawQuery) + "\n")
	for _, name := range s.headers {
		b.WriteString(name + ":" + canonicalHeader(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(s.headers, ";") + "\n" + payload)
	return b.Bytes()
}

// canonicalPath encodes the path as it came once more, as all services but S3 want it.
func canonicalPath(u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		return "/"
	}
	return encode(path, "/")
}

// canonicalQuery orders the parts by their encoded names and values, without the signature itself. An
// unencoded + is a space, as it is for who reads the query afterwards.
func canonicalQuery(raw string) string {
	var parts [][2]string
	for part := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(part, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		if part == "" || name == "X-Amz-Signature" || err1 != nil || err2 != nil {
			continue // ParseSignature has refused what can't be read
		}
		parts = append(parts, [2]string{encode(name, ""), encode(value, "")})
	}
	slices.SortFunc(parts, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	var b strings.Builder
	for i, part := range parts {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(part[0] + "=" + part[1])
	}
	return b.String()
}

// canonicalHeader joins the values of a header; runs of spaces count as one.
func canonicalHeader(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length": // net/http takes it out of the header
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i := range values {
		values[i] = strings.Join(strings.FieldsFunc(values[i], func(c rune) bool { return c == ' ' }), " ")
	}
	return strings.Join(values, ",")
}

// encode leaves letters, digits and -._~ as they are, and what is in also.
func encode(s, also string) string {
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		c := s[i]
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0,
			strings.IndexByte(also, c) >= 0:
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}
