package compliance

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/nfseal/nfseal/appliance/policy"
)

// Status is a rule's judgement of a resource, as AWS Config spells it.
type Status string

// The judgements.
const (
	Compliant    Status = "COMPLIANT"
	NonCompliant Status = "NON_COMPLIANT"
)

// Finding is what one rule says of one resource.
type Finding struct {
	Rule         string `json:"rule"`
	ResourceType string `json:"resourceType"`
	Resource     string `json:"resourceId"`
	Status       Status `json:"complianceType"`
	Detail       string `json:"annotation"` // why
}

// The types of resources.
const (
	typeFileSystem = "AWS::EFS::FileSystem"
	typeKey        = "AWS::KMS::Key"
	typeAppliance  = "nfseal::Appliance"
)

// State is how an appliance is.
type State struct {
	FileSystems []FileSystem
	Keys        []Key // of KMS, all
	Appliance   Appliance
}

// FileSystem is what rules ask of one.
type FileSystem struct {
	ID, ARN string
	Key     string // id of its KMS key; empty: it is under the root key
	Policy  string // as it was put
	// HasPolicy says that there is one, though its text may be damaged.
	HasPolicy bool
}

// Key is what rules ask of a key of KMS.
type Key struct {
	ID              string
	RotationDays    int // between new versions; 0: there are none
	Imported        bool
	PendingDeletion bool
	DeletionDate    time.Time
}

// Appliance is what rules ask of the daemon and its host.
type Appliance struct {
	Name      string
	Plaintext bool // NFS without TLS is served
	Root      string
	// RootIsFile says that the root of trust is a file that opens everything for whoever reads it.
	RootIsFile bool
	// OCSP has, for each certificate that clients of NFS are shown, why no responder calls it good; nil if one does.
	OCSP map[string]error
}

// judge is one rule about a resource of type T: why it is not met, or with true how it is.
type judge[T any] func(*State, *T) (met bool, detail string)

// rule has the name of a judge.
type rule[T any] struct {
	name  string
	judge judge[T]
}

var fileSystemRules = []rule[FileSystem]{
	{"efs-encrypted-check", encrypted},
	{"efs-policy-present", hasPolicy},
	{"efs-in-transit-encryption-enforced", enforcesTLS},
}

var keyRules = []rule[Key]{
	{"cmk-backing-key-rotation-enabled", rotates},
	{"kms-cmk-not-scheduled-for-deletion", notScheduled},
}

var applianceRules = []rule[Appliance]{
	{"ocsp-responder-on", answersOCSP},
	{"plaintext-refused", refusesPlaintext},
	{"root-of-trust-not-plain-file", rootIsNoFile},
}

// Evaluate judges every resource of s by every rule for its type, in the order of types, resources and rules.
func Evaluate(s *State) []Finding {
	var all []Finding
	for i := range s.FileSystems {
		all = append(all, apply(s, typeFileSystem, s.FileSystems[i].ID, &s.FileSystems[i], fileSystemRules)...)
	}
	for i := range s.Keys {
		all = append(all, apply(s, typeKey, s.Keys[i].ID, &s.Keys[i], keyRules)...)
	}
	all = append(all, apply(s, typeAppliance, s.Appliance.Name, &s.Appliance, applianceRules)...)
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.ResourceType, b.ResourceType), cmp.Compare(a.Resource, b.Resource))
	})
	return all
}

func apply[T any](s *State, kind, id string, resource *T, rules []rule[T]) []Finding {
	list := make([]Finding, 0, len(rules))
	for _, r := range rules {
		f := Finding{Rule: r.name, ResourceType: kind, Resource: id, Status: NonCompliant}
		met, detail := r.judge(s, resource)
		if met {
			f.Status = Compliant
		}
		f.Detail = detail
		list = append(list, f)
	}
	return list
}

// encrypted is AWS Config's efs-encrypted-check: contents are encrypted under a key of KMS.
func encrypted(s *State, f *FileSystem) (bool, string) {
	switch {
	case f.Key == "":
		return false, "encrypted under the root key, not under a KMS key: it was made before there were any"
	case !slices.ContainsFunc(s.Keys, func(k Key) bool { return k.ID == f.Key }):
		return false, "its KMS key " + f.Key + " does not exist any more"
	}
	return true, "encrypted under KMS key " + f.Key
}

func hasPolicy(_ *State, f *FileSystem) (bool, string) {
	if !f.HasPolicy {
		return false, "it has no policy: everybody who reaches it may mount it"
	}
	return true, "it has a policy"
}

// enforcesTLS asks the policy of f about a mount in plaintext, by nobody and by somebody whose own policies allow
// everything. Only a denial that needs nothing else to be true makes both fail.
func enforcesTLS(_ *State, f *FileSystem) (bool, string) {
	if !f.HasPolicy {
		return false, "it has no policy that denies mounts with aws:SecureTransport false"
	}
	d, err := policy.Parse(policy.Resource, f.Policy)
	if err != nil {
		return false, "its policy can't be read"
	}
	somebody := policy.Principal{ARN: "arn:aws:iam::" + account + ":user/any", Account: account}
	for _, action := range []string{"ClientMount", "ClientWrite", "ClientRootAccess"} {
		request := policy.Request{
			Action: "elasticfilesystem:" + action, Resource: f.ARN, Context: map[string][]string{"aws:SecureTransport": {"false"}},
		}
		if policy.Evaluate(&request, nil, d, policy.Either).Allowed() {
			return false, "its policy lets anonymous clients do " + action + " with aws:SecureTransport false"
		}
		request.Principal = somebody
		if policy.Evaluate(&request, []*policy.Document{allowsAll()}, d, policy.Either).Allowed() {
			return false, "its policy does not keep users from " + action + " with aws:SecureTransport false"
		}
	}
	return true, "its policy denies clients without TLS"
}

// account is the one that all principals are of.
const account = "000000000000"

// allowsAll is the most that a user's own policy can say.
func allowsAll() *policy.Document {
	d, err := policy.Parse(policy.Identity, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)
	if err != nil {
		panic("compliance: " + err.Error()) // the text above is wrong
	}
	return d
}

// rotates is AWS Config's cmk-backing-key-rotation-enabled, which does not ask it of imported material.
func rotates(_ *State, k *Key) (bool, string) {
	if k.Imported {
		return true, "its material was imported: whoever has it gives it new material"
	}
	if k.RotationDays == 0 {
		return false, "it is given no new versions: nfseal key rotate --every"
	}
	return true, fmt.Sprintf("it is given a new version every %d days", k.RotationDays)
}

// notScheduled is AWS Config's kms-cmk-not-scheduled-for-deletion.
func notScheduled(_ *State, k *Key) (bool, string) {
	if k.PendingDeletion {
		return false, "it is destroyed after " + k.DeletionDate.UTC().Format(time.DateTime) + ", with all that is under it"
	}
	return true, "it is not to be destroyed"
}

func answersOCSP(_ *State, a *Appliance) (bool, string) {
	if len(a.OCSP) == 0 {
		return false, "clients are shown no certificate"
	}
	names := make([]string, 0, len(a.OCSP))
	for name := range a.OCSP {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := a.OCSP[name]; err != nil {
			return false, "certificate of " + name + ": " + err.Error()
		}
	}
	return true, fmt.Sprintf("good for %d certificates", len(names))
}

func refusesPlaintext(_ *State, a *Appliance) (bool, string) {
	if a.Plaintext {
		return false, "clients without TLS are served, as -allow-plaintext asks, where no policy denies it"
	}
	return true, "clients without TLS are refused"
}

func rootIsNoFile(_ *State, a *Appliance) (bool, string) {
	if a.RootIsFile {
		return false, "whoever reads " + a.Root + " has the root key"
	}
	return true, "the root key is kept by " + a.Root
}
