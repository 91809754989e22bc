package kms

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// codeOf is the name of a fault.
func codeOf(err error) string {
	var f *Fault
	if !errors.As(err, &f) {
		return ""
	}
	return f.Code
}

// clientForTest is a client with a key that it has a grant for, and the time by which the clock is ahead.
func clientForTest(t *testing.T) (*Client, *Keys, Key, *time.Duration) {
	t.Helper()
	k, store := openKeys(t, vfs.NewMem(), rootForTest(t))
	t.Cleanup(func() { store.Close() })
	ahead := new(time.Duration)
	k.o.Clock = func() time.Time { return time.Now().Add(*ahead) }
	key, err := k.Create(t.Context(), "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(k, &memoryLog{}, EFS)
	if _, err := c.GrantFor(t.Context(), key.ID, "fs-1", fsContext); err != nil {
		t.Fatal(err)
	}
	return c, k, key, ahead
}

// What a service may do follows the key's state, policy and grants at each use, Usable says the same, and
// data keys of all versions open.
func TestClientFollowsTheKey(t *testing.T) {
	c, k, key, ahead := clientForTest(t)
	ctx := t.Context()
	blob, err := c.GenerateDataKeyWithoutPlaintext(ctx, key.ID, fsContext)
	if err != nil {
		t.Fatal(err)
	}
	check := func(when, want string) {
		t.Helper()
		opened, err := c.Unwrap(ctx, blob, fsContext)
		if err == nil {
			opened.Close()
		}
		verdicts, usableErr := c.Usable(ctx, []Wanted{{key.ID, fsContext}})
		if usableErr != nil {
			t.Fatal(usableErr)
		}
		if codeOf(err) != want || codeOf(verdicts[0]) != want {
			t.Errorf("%s: Unwrap says %v, Usable %v; want %q", when, err, verdicts[0], want)
		}
	}
	change := func(f func(*Key) error) {
		t.Helper()
		if _, err := k.Change(ctx, key.ID, f); err != nil {
			t.Fatal(err)
		}
	}
	check("at first", "")
	for range 3 {
		if _, err := k.Rotate(ctx, key.ID); err != nil {
			t.Fatal(err)
		}
	}
	check("rotated", "")
	change((*Key).Disable)
	check("disabled", "DisabledException")
	change((*Key).Enable)
	check("enabled", "")
	deny := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":{"Service":"elasticfilesystem.amazonaws.com"},"Action":"kms:Decrypt","Resource":"*"}]}`
	change(func(key *Key) error { return key.SetPolicy(deny) })
	check("denied by the policy", "AccessDeniedException")
	change(func(key *Key) error { return key.SetPolicy(k.defaultPolicy()) })
	check("not denied", "")
	if err := c.Retire(ctx, key.ID, "fs-1"); err != nil {
		t.Fatal(err)
	}
	check("without its grant", "AccessDeniedException")
	if _, err := c.GrantFor(ctx, key.ID, "fs-1", keyring.Context{"other": "context"}); err != nil {
		t.Fatal(err)
	}
	check("with a grant for another context", "AccessDeniedException")
	allow := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"elasticfilesystem.amazonaws.com"},"Action":"kms:*","Resource":"*"}]}`
	change(func(key *Key) error { return key.SetPolicy(allow) })
	check("by the policy alone", "")
	if _, err := k.ScheduleDeletion(ctx, key.ID, 7); err != nil {
		t.Fatal(err)
	}
	check("pending deletion", "KMSInvalidStateException")
	*ahead = 8 * 24 * time.Hour
	check("deleted", "NotFoundException")
}

func TestClientRecordsEachUse(t *testing.T) {
	c, k, key, _ := clientForTest(t)
	log := c.audit.(*memoryLog)
	blob, err := c.GenerateDataKeyWithoutPlaintext(t.Context(), key.ID, fsContext)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Unwrap(t.Context(), blob, keyring.Context{"another": "context"}); err == nil {
		t.Error("another context opened it")
	}
	opened, err := c.Unwrap(t.Context(), blob, fsContext)
	if err != nil {
		t.Fatal(err)
	}
	opened.Close()
	names := []string{"GenerateDataKeyWithoutPlaintext", "Decrypt", "Decrypt"}
	codes := []string{"", "AccessDeniedException", ""}
	if len(log.events) != len(names) {
		t.Fatalf("%+v", log.events)
	}
	for i, e := range log.events {
		if e.Name != names[i] || e.ErrorCode != codes[i] || e.Identity.Type != "AWSService" ||
			e.Identity.InvokedBy != "elasticfilesystem.amazonaws.com" || e.Resources[0] != k.ARN(key.ID) {
			t.Errorf("record %d: %+v", i, e)
		}
	}
	log.err = errors.New("disk full")
	if got, err := c.Unwrap(t.Context(), blob, fsContext); got != nil || !errors.Is(err, log.err) {
		t.Errorf("unwrapped without a record: %v", err)
	}
	if got, err := c.GenerateDataKeyWithoutPlaintext(t.Context(), key.ID, fsContext); got != nil || !errors.Is(err, log.err) {
		t.Errorf("made without a record: %v", err)
	}
}

// Deletion ends what others keep of a key first, then grants, record and alias; a failure leaves it for the
// next time.
func TestSweepDestroysWhatIsDue(t *testing.T) {
	c, k, key, ahead := clientForTest(t)
	ctx := t.Context()
	var told []string
	fail := errors.New("disk full")
	k.o.Destroying = func(id string) error { told = append(told, id); return fail }
	if _, err := k.ScheduleDeletion(ctx, key.ID, 7); err != nil {
		t.Fatal(err)
	}
	if err := k.Sweep(ctx); err != nil || len(told) != 0 {
		t.Fatalf("before its time: %v, %v", told, err)
	}
	*ahead = 8 * 24 * time.Hour
	if err := k.Sweep(ctx); !errors.Is(err, fail) || len(told) != 1 {
		t.Fatalf("%v, %v", told, err)
	}
	if grants, err := k.Grants(ctx, key.ID); err != nil || len(grants) != 1 {
		t.Errorf("after the failure: %v, %v", grants, err)
	}
	fail = nil
	if err := k.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if kvs, _, err := k.o.Store.Range(ctx, "kms/"); err != nil || len(kvs) != 0 {
		t.Errorf("left behind: %v, %v", kvs, err)
	}
	if _, err := c.GrantFor(ctx, key.ID, "fs-1", fsContext); codeOf(err) != "NotFoundException" {
		t.Errorf("a grant for a key that is gone: %v", err)
	}
}

func FuzzGrantToken(f *testing.F) {
	f.Add("")
	f.Add((&Grant{Key: "01234567-0123-0123-0123-0123456789ab", ID: "00"}).Token())
	f.Fuzz(func(t *testing.T, token string) {
		key, grant, err := ParseGrantToken(token)
		if err == nil && (!uuidPattern.MatchString(key) || !grantIDPattern.MatchString(grant)) {
			t.Fatalf("%q: %q, %q", token, key, grant)
		}
	})
}
