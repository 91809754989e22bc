package iam

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestNewAccessKey(t *testing.T) {
	id, secret := NewAccessKey()
	again, other := NewAccessKey()
	if !ValidKeyID(id) || len(id) != 20 || len(secret.Reveal()) != secretChars || id == again || secret == other {
		t.Errorf("%s with %d characters, then %s", id, len(secret.Reveal()), again)
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
