package api

import (
	"slices"
	"strings"

	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/kms"
)

// GrantConstraints are those of a grant, as KMS spells them.
type GrantConstraints struct {
	EncryptionContextEquals map[string]string `json:"EncryptionContextEquals,omitempty"`
	EncryptionContextSubset map[string]string `json:"EncryptionContextSubset,omitempty"`
}

// conditions are the condition keys of CreateGrant, or of the import of material; none for other operations.
func (in *KMSRequest) conditions() map[string][]string {
	if in.GranteePrincipal == "" {
		return in.importConditions()
	}
	more := map[string][]string{
		"kms:GranteePrincipal": {clip(in.GranteePrincipal)}, "kms:GrantOperations": in.Operations, "kms:GrantIsForAWSResource": {"false"},
	}
	if in.RetiringPrincipal != "" {
		more["kms:RetiringPrincipal"] = []string{clip(in.RetiringPrincipal)}
	}
	if c := in.Constraints; c != nil {
		if c.EncryptionContextEquals != nil {
			more["kms:GrantConstraintType"] = append(more["kms:GrantConstraintType"], "EncryptionContextEquals")
		}
		if c.EncryptionContextSubset != nil {
			more["kms:GrantConstraintType"] = append(more["kms:GrantConstraintType"], "EncryptionContextSubset")
		}
	}
	return more
}

// grantNames are what grants call a caller.
func grantNames(caller *iam.Caller) []string {
	names := []string{caller.Principal.ARN}
	if role := caller.Principal.Role; role != "" {
		names = append(names, role)
	}
	return names
}

func createGrant(c *kmsCall) (any, error) {
	in := &c.in
	g := kms.Grant{
		Key: c.key.ID, Name: in.Name, Grantee: in.GranteePrincipal, Retiring: in.RetiringPrincipal, Operations: in.Operations,
	}
	if in.Constraints != nil {
		g.Constraints = kms.Constraints{Equals: in.Constraints.EncryptionContextEquals, Subset: in.Constraints.EncryptionContextSubset}
	}
	if c.by == kms.ByGrant {
		if err := c.keys.CheckHandingOn(c.ctx, grantNames(c.caller), &g); err != nil {
			return nil, err
		}
	}
	made, err := c.keys.CreateGrant(c.ctx, g)
	if err != nil {
		return nil, err
	}
	return values{"GrantId": made.ID, "GrantToken": made.Token()}, nil
}

func listGrants(c *kmsCall) (any, error) {
	all, err := c.keys.Grants(c.ctx, c.key.ID)
	if err != nil {
		return nil, err
	}
	return grantPage(c, slices.DeleteFunc(all, func(g kms.Grant) bool {
		return c.in.GrantID != "" && g.ID != c.in.GrantID || c.in.GranteePrincipal != "" && g.Grantee != c.in.GranteePrincipal
	}))
}

func listRetirable(c *kmsCall) (any, error) {
	if c.in.RetiringPrincipal == "" {
		return nil, invalid("RetiringPrincipal is needed")
	}
	all, err := c.keys.Grants(c.ctx, "")
	if err != nil {
		return nil, err
	}
	return grantPage(c, slices.DeleteFunc(all, func(g kms.Grant) bool { return g.Retiring != c.in.RetiringPrincipal }))
}

// grantPage is a page of a list of grants, in the order of keys and ids.
func grantPage(c *kmsCall, all []kms.Grant) (any, error) {
	part, out, err := page(c, all, defaultPage, func(g kms.Grant) string { return g.Key + "/" + g.ID })
	if err != nil {
		return nil, err
	}
	list := make([]values, 0, len(part))
	for i := range part {
		list = append(list, grantEntry(c.keys, &part[i]))
	}
	out["Grants"] = list
	return out, nil
}

func grantEntry(keys *kms.Keys, g *kms.Grant) values {
	v := values{
		"KeyId": keys.ARN(g.Key), "GrantId": g.ID, "CreationDate": seconds(g.Created), "GranteePrincipal": g.Grantee,
		"IssuingAccount": g.Issuer, "Operations": g.Operations,
	}
	if g.Name != "" {
		v["Name"] = g.Name
	}
	if g.Retiring != "" {
		v["RetiringPrincipal"] = g.Retiring
	}
	if g.Constraints.Equals != nil || g.Constraints.Subset != nil {
		v["Constraints"] = GrantConstraints{g.Constraints.Equals, g.Constraints.Subset}
	}
	return v
}

func revokeGrant(c *kmsCall) (any, error) {
	g, err := c.keys.Grant(c.ctx, c.key.ID, c.in.GrantID)
	if err != nil {
		return nil, err
	}
	return nil, c.keys.RemoveGrant(c.ctx, &g)
}

// ofGrant is the key of the grant that RetireGrant names, by its token or by key and id.
func ofGrant(c *kmsCall) (kms.Key, error) {
	if c.in.GrantToken == "" {
		if !strings.HasPrefix(c.in.KeyID, "arn:") {
			return kms.Key{}, &kms.Fault{Code: "InvalidArnException", Message: "KeyId must be the ARN of a key"}
		}
		return byID(c)
	}
	key, grant, err := kms.ParseGrantToken(c.in.GrantToken)
	if err != nil {
		return kms.Key{}, err
	}
	c.in.GrantID = grant
	return c.keys.Find(c.ctx, key)
}

// mayRetire lets those retire a grant whom it names, its grantee if it says so, and those whom the policies
// let (KMS API, RetireGrant). Other grants count for nothing.
func mayRetire(c *kmsCall) error {
	if c.caller == nil {
		return nil
	}
	g, err := c.keys.Grant(c.ctx, c.key.ID, c.in.GrantID)
	if err != nil {
		return err
	}
	if slices.Contains(grantNames(c.caller), g.Retiring) || g.Allows(grantNames(c.caller), "RetireGrant", nil) {
		return nil
	}
	if err := c.may("RetireGrant", &c.key, nil); err != nil {
		return err
	}
	if c.by != kms.ByPolicy {
		return keyDenied(c.caller, "RetireGrant", c.keys.ARN(c.key.ID))
	}
	return nil
}

func retireGrant(c *kmsCall) (any, error) {
	g, err := c.keys.Grant(c.ctx, c.key.ID, c.in.GrantID)
	if err != nil {
		return nil, err
	}
	return nil, c.keys.RemoveGrant(c.ctx, &g)
}
