package compliance

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"
)

// The policy of the EFS console for "enforce in-transit encryption for all clients".
const tlsOnly = `{"Version":"2012-10-17","Statement":[
	{"Effect":"Allow","Principal":{"AWS":"*"},"Action":["elasticfilesystem:ClientMount","elasticfilesystem:ClientWrite"],
	 "Condition":{"Bool":{"elasticfilesystem:AccessedViaMountTarget":"true"}}},
	{"Effect":"Deny","Principal":{"AWS":"*"},"Action":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}`

func good() *State {
	return &State{
		FileSystems: []FileSystem{{ID: "fs-1", ARN: "arn:aws:elasticfilesystem:local-1:000000000000:file-system/fs-1", Key: "k", Policy: tlsOnly, HasPolicy: true}},
		Keys:        []Key{{ID: "k", RotationDays: 365}},
		Appliance:   Appliance{Name: "box", Root: "a TPM 2.0", OCSP: map[string]error{"unit u": nil}},
	}
}

// broken is the rules that s breaks.
func broken(s *State) []string {
	var names []string
	for _, f := range Evaluate(s) {
		if f.Status != Compliant {
			names = append(names, f.Rule)
		}
		if f.Detail == "" {
			names = append(names, f.Rule+" without a reason")
		}
	}
	return names
}

func TestAllIsWell(t *testing.T) {
	if got := broken(good()); got != nil {
		t.Errorf("broken: %v", got)
	}
	if n := len(Evaluate(good())); n != 8 {
		t.Errorf("%d findings, want 8", n)
	}
}

func TestEachRule(t *testing.T) {
	policyOf := func(text string) func(*State) {
		return func(s *State) { s.FileSystems[0].Policy = text }
	}
	for name, test := range map[string]struct {
		spoil func(*State)
		want  []string
	}{
		"root key":    {func(s *State) { s.FileSystems[0].Key = "" }, []string{"efs-encrypted-check"}},
		"key is gone": {func(s *State) { s.FileSystems[0].Key = "other" }, []string{"efs-encrypted-check"}},
		"no policy": {func(s *State) { s.FileSystems[0].HasPolicy, s.FileSystems[0].Policy = false, "" },
			[]string{"efs-policy-present", "efs-in-transit-encryption-enforced"}},
		"damaged policy": {policyOf("{"), []string{"efs-in-transit-encryption-enforced"}},
		"everybody":      {policyOf(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"elasticfilesystem:ClientMount"}}`), []string{"efs-in-transit-encryption-enforced"}},
		"allowed with TLS, not denied without": {policyOf(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"elasticfilesystem:*",
			"Condition":{"Bool":{"aws:SecureTransport":"true"}}}}`), []string{"efs-in-transit-encryption-enforced"}},
		"denied to some": {policyOf(`{"Statement":{"Effect":"Deny","Principal":"*","Action":"*",
			"Condition":{"Bool":{"aws:SecureTransport":"false"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}}`), []string{"efs-in-transit-encryption-enforced"}},
		"mounts denied, writes not": {policyOf(`{"Statement":{"Effect":"Deny","Principal":"*","Action":"elasticfilesystem:ClientMount",
			"Condition":{"Bool":{"aws:SecureTransport":"false"}}}}`), []string{"efs-in-transit-encryption-enforced"}},
		"all denied":        {policyOf(`{"Statement":{"Effect":"Deny","Principal":"*","Action":"*"}}`), nil},
		"no rotation":       {func(s *State) { s.Keys[0].RotationDays = 0 }, []string{"cmk-backing-key-rotation-enabled"}},
		"imported":          {func(s *State) { s.Keys[0].RotationDays, s.Keys[0].Imported = 0, true }, nil},
		"pending deletion":  {func(s *State) { s.Keys[0].PendingDeletion = true }, []string{"kms-cmk-not-scheduled-for-deletion"}},
		"no answer of OCSP": {func(s *State) { s.Appliance.OCSP["a"] = errors.New("refused") }, []string{"ocsp-responder-on"}},
		"no certificate":    {func(s *State) { s.Appliance.OCSP = nil }, []string{"ocsp-responder-on"}},
		"plaintext":         {func(s *State) { s.Appliance.Plaintext = true }, []string{"plaintext-refused"}},
		"key file":          {func(s *State) { s.Appliance.RootIsFile = true }, []string{"root-of-trust-not-plain-file"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := good()
			test.spoil(s)
			if got := broken(s); !slices.Equal(got, test.want) {
				t.Errorf("broken: %v, want %v", got, test.want)
			}
		})
	}
}

func TestOrderAndWords(t *testing.T) {
	s := good()
	s.FileSystems = append([]FileSystem{{ID: "fs-2"}}, s.FileSystems...)
	s.Keys[0].PendingDeletion, s.Keys[0].DeletionDate = true, time.Unix(1700000000, 0)
	all := Evaluate(s)
	if got := fmt.Sprint(all[0].Resource, all[3].Resource, all[6].ResourceType, all[8].ResourceType); got != "fs-1fs-2AWS::KMS::Keynfseal::Appliance" {
		t.Error(got)
	}
	want := Finding{"kms-cmk-not-scheduled-for-deletion", "AWS::KMS::Key", "k", NonCompliant, "it is destroyed after 2023-11-14 22:13:20, with all that is under it"}
	if !reflect.DeepEqual(all[7], want) {
		t.Errorf("%+v", all[7])
	}
}
