package policy

import (
	"errors"
	"fmt"
	"strings"
)

// Principal is who asks.
type Principal struct {
	// ARN of the user, the role's session or the account's root; empty for an anonymous client.
	ARN string
	// Role is the ARN of the role, if a role's session asks.
	Role string
	// Account is the account's number, 12 digits; empty for an anonymous client.
	Account string
	// Service is the name of the service that asks for itself, such as "elasticfilesystem.nfseal.internal".
	Service string
	// Federated is the ARN of the identity provider whose token asks, which is of no account.
	Federated string
}

// principals is a Principal or NotPrincipal member.
type principals struct {
	everybody bool
	// federated says that everybody is those of identity providers too: they are with "*" alone, and wherever
	// everybody is denied.
	federated bool
	providers map[string]bool
	accounts  map[string]bool
	arns      map[string]bool
	services  map[string]bool
	negated   bool
}

// named says how a statement speaks of who asks.
type named uint8

const (
	notNamed  named = iota
	asMember        // as one of an account: its identity policies decide
	asItself        // by ARN, as a service, or as everybody
	asSession       // by the ARN of the role's session
)

func (s *statement) readPrincipals(kind Kind, o *object) error {
	plain, there := o.values["Principal"]
	not, negated := o.values["NotPrincipal"]
	switch {
	case kind == Identity && (there || negated):
		return errors.New("names a principal, which an identity policy does not")
	case kind == Identity:
		return nil
	case there == negated:
		return errors.New("needs Principal or NotPrincipal, and not both")
	case negated:
		plain = not
	}
	p := &principals{negated: negated, federated: s.deny}
	p.accounts, p.arns, p.services, p.providers = map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	s.principals = p
	if plain == "*" {
		p.everybody, p.federated = true, true
		return nil
	}
	members, ok := plain.(*object)
	if !ok || len(members.names) == 0 {
		return errors.New(`needs "*" or an object such as {"AWS": …} as Principal`)
	}
	for _, name := range members.names {
		if err := p.read(kind, name, members.values[name]); err != nil {
			return err
		}
	}
	return nil
}

func (p *principals) read(kind Kind, name string, value any) error {
	list, err := texts(value)
	if err != nil {
		return fmt.Errorf("principal %s %w", name, err)
	}
	for _, who := range list {
		switch {
		case name == "Service" && who != "" && !strings.ContainsAny(who, "*?"):
			p.services[who] = true
		case name == "Federated" && kind == Trust && isProvider(who):
			p.providers[who] = true
		case name == "Federated" && kind == Trust:
			return fmt.Errorf("principal Federated %q is not the ARN of an OpenID Connect provider without wildcards", who)
		case name != "AWS":
			return fmt.Errorf("principal %s %q is not known: AWS and Service are, and Federated in a role's trust policy", name, who)
		case who == "*":
			p.everybody = true
		case isAccount(who):
			p.accounts[who] = true
		case !p.addARN(who):
			return fmt.Errorf("%q is not a principal: *, an account, or the ARN of a user or role without wildcards", who)
		}
	}
	return nil
}

func (p *principals) addARN(who string) bool {
	parts := strings.SplitN(who, ":", arnParts)
	if len(parts) != arnParts || parts[0] != "arn" || !isAccount(parts[4]) || strings.ContainsAny(who, "*?") {
		return false
	}
	if parts[2] != "iam" && parts[2] != "sts" {
		return false
	}
	if parts[5] == "root" {
		p.accounts[parts[4]] = true
		return true
	}
	p.arns[who] = true
	return strings.Contains(parts[5], "/")
}

// isProvider says whether who is the ARN of an OpenID Connect provider.
func isProvider(who string) bool {
	parts := strings.SplitN(who, ":", arnParts)
	return len(parts) == arnParts && parts[0] == "arn" && parts[2] == "iam" && parts[3] == "" && isAccount(parts[4]) &&
		strings.HasPrefix(parts[5], "oidc-provider/") && !strings.ContainsAny(who, "*?")
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

// names says how p speaks of who.
func (p *principals) names(who *Principal) named {
	how := p.match(who)
	switch {
	case !p.negated:
		return how
	case how == notNamed:
		return asItself
	}
	return notNamed
}

func (p *principals) match(who *Principal) named {
	switch {
	case who.Federated != "":
		if p.providers[who.Federated] || p.everybody && p.federated {
			return asItself
		}
		return notNamed
	case who.Role != "" && p.arns[who.ARN]:
		return asSession
	case p.everybody, who.ARN != "" && p.arns[who.ARN], who.Role != "" && p.arns[who.Role],
		who.Service != "" && p.services[who.Service]:
		return asItself
	case who.Account == "" || !p.accounts[who.Account]:
		return notNamed
	case strings.HasSuffix(who.ARN, ":root"):
		return asItself
	}
	return asMember
}
