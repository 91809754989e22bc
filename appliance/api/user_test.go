package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/iam"
)

const anyUserPolicy = `{"Statement":{"Effect":"Allow","Action":"elasticfilesystem:ClientMount","Resource":"*"}}`

// TestUserOperations goes through the life of a user, and reads the record of it.
func TestUserOperations(t *testing.T) {
	s, _, log := newServer(t)
	bob := usersPath + "/bob"
	put := `{"Policy":` + strconv.Quote(anyUserPolicy) + `}`
	for _, step := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", usersPath, `{"UserName":"bob"}`, 201, `"UserName":"bob"`},
		{"POST", usersPath, `{"UserName":"bob"}`, 409, `"EntityAlreadyExists"`},
		{"POST", usersPath, `{"UserName":"a/b"}`, 400, `"ValidationError"`},
		{"POST", usersPath, `{"UserName":7}`, 400, `"BadRequest"`},
		{"PUT", bob + "/policies/own", put, 204, ``},
		{"PUT", bob + "/policies/own", `{"Policy":"{}"}`, 400, `"MalformedPolicyDocument"`},
		{"PUT", bob + "/policies/a%20b", put, 400, `"ValidationError"`},
		{"PUT", usersPath + "/eve/policies/own", put, 404, `"NoSuchEntity"`},
		{"GET", usersPath, ``, 200, `"Policies":{"own":`},
		{"DELETE", bob + "/policies/own", ``, 204, ``},
		{"DELETE", bob + "/policies/own", ``, 404, `"NoSuchEntity"`},
		{"DELETE", bob + "/access-keys/AKIAAAAAAAAAAAAAAAAA", ``, 404, `"NoSuchEntity"`},
		{"DELETE", bob + "/access-keys/x", ``, 400, `"ValidationError"`},
		{"DELETE", bob, ``, 204, ``},
		{"DELETE", bob, ``, 404, `"NoSuchEntity"`},
		{"POST", bob + "/access-keys", ``, 404, `"NoSuchEntity"`},
	} {
		w := ask(s, step.method, step.path, step.body)
		if w.Code != step.status || !strings.Contains(w.Body.String(), step.want) {
			t.Errorf("%s %s %.40s: %d %s", step.method, step.path, step.body, w.Code, w.Body)
		}
	}
	first := log.events[0]
	if first.Source != "iam" || first.Name != "CreateUser" || first.Parameters["user"] != "bob" {
		t.Errorf("recorded %+v", first)
	}
}

// TestSecretIsShownOnce makes two keys, of which more than that a user may not have, and looks for
// their secrets in what else can be read.
func TestSecretIsShownOnce(t *testing.T) {
	s, _, log := newServer(t)
	ask(s, "POST", usersPath, `{"UserName":"bob"}`)
	var secrets []string
	for range 2 {
		var k AccessKeyDescription
		w := ask(s, "POST", usersPath+"/bob/access-keys", "")
		if err := json.Unmarshal(w.Body.Bytes(), &k); err != nil || w.Code != 201 || !iam.ValidKeyID(k.AccessKeyID) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		secrets = append(secrets, k.SecretAccessKey)
	}
	if w := ask(s, "POST", usersPath+"/bob/access-keys", ""); w.Code != 409 || !strings.Contains(w.Body.String(), "LimitExceeded") {
		t.Errorf("third key: %d %s", w.Code, w.Body)
	}
	shown := ask(s, "GET", usersPath, "").Body.String() + fmt.Sprint(log.events)
	for _, secret := range secrets {
		if len(secret) != 40 || strings.Contains(shown, secret) {
			t.Errorf("a secret of %d characters is shown again", len(secret))
		}
	}
}
