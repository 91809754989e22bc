package iam

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestNewAccessKey(t *testing.T) {
	id, secret := NewAccessKey()
	again, other := NewAccessKey()
	if !ValidKeyID(id) || len(id) != 20 || len(secret.Reveal()) != secretChars || id == again || secret == other {
		t.Errorf("%s with %d characters, then %s", id, len(secret.Reveal()), again)
	}
}

// A user that is made again is somebody else.
func TestUserID(t *testing.T) {
	made := time.Unix(1700000000, 5)
	id := UserID("bob", made)
	if len(id) != 21 || !strings.HasPrefix(id, "AIDA") || id != UserID("bob", made.UTC()) {
		t.Errorf("%s, then %s", id, UserID("bob", made.UTC()))
	}
	if id == UserID("bob", made.Add(1)) || id == UserID("eve", made) {
		t.Error("two users have one id")
	}
}

// TestSecretIsNotShown goes through the ways in which a value reaches a log.
func TestSecretIsNotShown(t *testing.T) {
	type holder struct{ S Secret }
	h := holder{NewSecret("hidden")}
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%v %+v %#v %s %q %x %d", h, h, h, h.S, h.S, h.S, h.S) + string(text)
	if strings.Contains(shown, "hidden") || strings.Contains(shown, hex.EncodeToString([]byte("hidden"))) {
		t.Error(shown)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{"bob": true, "a@b.c": true, "": false, "a/b": false, strings.Repeat("x", 65): false, "é": false} {
		if ValidUser(name) != want {
			t.Errorf("user %q: %v", name, !want)
		}
	}
	if ValidKeyID("akia") || ValidPolicyName("a b") || !ValidPolicyName("read-only") {
		t.Error("key id or policy name")
	}
}
