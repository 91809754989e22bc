package appliance

import (
	"testing"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/kms"
)

// judged is what the rules say of a resource, by rule.
func (r *running) judged(t *testing.T, resource string) map[string]api.Finding {
	t.Helper()
	all, err := r.Compliance(t.Context())
	check(t, err)
	of := make(map[string]api.Finding)
	for _, f := range all {
		if f.Resource == resource {
			of[f.Rule] = f
		}
	}
	return of
}

func wantJudgement(t *testing.T, of map[string]api.Finding, rule string, met bool) {
	t.Helper()
	if f, known := of[rule]; !known || (f.Status == api.Compliant) != met {
		t.Errorf("%s: %+v, want it met: %v", rule, f, met)
	}
}

// The findings follow what is done to file systems and keys, and to the responder.
func TestCompliance(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	key, err := r.kmsKeys.Create(t.Context(), "", "", nil)
	check(t, err)
	f, err := r.CreateFileSystem(t.Context(), catalog.FileSystem{CreationToken: "a", Key: key.ID})
	check(t, err)

	of := r.judged(t, f.ID)
	wantJudgement(t, of, "efs-encrypted-check", true)
	wantJudgement(t, of, "efs-policy-present", false)
	wantJudgement(t, of, "efs-in-transit-encryption-enforced", false)
	check(t, r.PutFileSystemPolicy(t.Context(), f.ID, `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"elasticfilesystem:Client*"},
		{"Effect":"Deny","Principal":"*","Action":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}`))
	of = r.judged(t, f.ID)
	wantJudgement(t, of, "efs-policy-present", true)
	wantJudgement(t, of, "efs-in-transit-encryption-enforced", true)

	of = r.judged(t, key.ID)
	wantJudgement(t, of, "cmk-backing-key-rotation-enabled", false)
	wantJudgement(t, of, "kms-cmk-not-scheduled-for-deletion", true)
	check(t, r.kmsKeys.EnableRotation(t.Context(), key.ID, 365))
	_, err = r.kmsKeys.ScheduleDeletion(t.Context(), key.ID, 7)
	check(t, err)
	of = r.judged(t, key.ID)
	wantJudgement(t, of, "cmk-backing-key-rotation-enabled", true)
	wantJudgement(t, of, "kms-cmk-not-scheduled-for-deletion", false)

	managed, err := r.kmsKeys.Managed(t.Context(), kms.EFS)
	check(t, err)
	wantJudgement(t, r.judged(t, managed.ID), "cmk-backing-key-rotation-enabled", true)

	of = r.judged(t, "box")
	wantJudgement(t, of, "ocsp-responder-on", true)
	wantJudgement(t, of, "plaintext-refused", true)
	wantJudgement(t, of, "root-of-trust-not-plain-file", false)
	check(t, r.responder.Close())
	wantJudgement(t, r.judged(t, "box"), "ocsp-responder-on", false)
}
