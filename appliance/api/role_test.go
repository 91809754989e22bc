package api

import (
	"strconv"
	"strings"
	"testing"
)

const trustsBob = `{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/bob"},"Action":"sts:AssumeRole"}}`

// TestRoleOperations goes through the life of a role, and reads the record of it.
func TestRoleOperations(t *testing.T) {
	s, _, log := newServer(t)
	create := func(name, trust, more string) string {
		return `{"RoleName":"` + name + `","AssumeRolePolicyDocument":` + strconv.Quote(trust) + more + `}`
	}
	put, trust := `{"Policy":`+strconv.Quote(anyUserPolicy)+`}`, `{"Policy":`+strconv.Quote(trustsBob)+`}`
	for _, step := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", rolesPath, create("r", trustsBob, ""), 201, `"Arn":"arn:aws:iam::000000000000:role/r","CreateDate":"2023-11-14T22:13:20Z","MaxSessionDuration":3600`},
		{"POST", rolesPath, create("r", trustsBob, ""), 409, `"EntityAlreadyExists"`},
		{"POST", rolesPath, create("a/b", trustsBob, ""), 400, `"ValidationError"`},
		{"POST", rolesPath, create("q", trustsBob, `,"MaxSessionDuration":43201`), 400, `"ValidationError"`},
		{"POST", rolesPath, create("q", trustsBob, `,"MaxSessionDuration":3599`), 400, `"ValidationError"`},
		{"POST", rolesPath, create("q", anyUserPolicy, ""), 400, `"MalformedPolicyDocument"`},
		{"POST", rolesPath, create("q", "", ""), 400, `"MalformedPolicyDocument"`},
		{"PUT", rolesPath + "/r/trust", trust, 204, ``},
		{"PUT", rolesPath + "/r/trust", put, 400, `"MalformedPolicyDocument"`},
		{"PUT", rolesPath + "/none/trust", trust, 404, `"NoSuchEntity"`},
		{"PUT", rolesPath + "/r/policies/own", put, 204, ``},
		{"PUT", rolesPath + "/r/policies/own", trust, 400, `"MalformedPolicyDocument"`},
		{"PUT", rolesPath + "/r/policies/a%20b", put, 400, `"ValidationError"`},
		{"GET", rolesPath, ``, 200, `"Policies":{"own":`},
		{"DELETE", rolesPath + "/r/policies/own", ``, 204, ``},
		{"DELETE", rolesPath + "/r/policies/own", ``, 404, `"NoSuchEntity"`},
		{"DELETE", rolesPath + "/r", ``, 204, ``},
		{"DELETE", rolesPath + "/r", ``, 404, `"NoSuchEntity"`},
	} {
		w := ask(s, step.method, step.path, step.body)
		if w.Code != step.status || !strings.Contains(w.Body.String(), step.want) {
			t.Errorf("%s %s %.40s: %d %s", step.method, step.path, step.body, w.Code, w.Body)
		}
	}
	first := log.events[0]
	if first.Source != "iam" || first.Name != "CreateRole" || first.Parameters["role"] != "r" {
		t.Errorf("recorded %+v", first)
	}
}
