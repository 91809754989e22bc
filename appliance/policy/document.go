package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrMalformed is what a document that can't be taken is.
var ErrMalformed = errors.New("malformed policy")

// Kind is what a document is attached to.
type Kind uint8

// The kinds of documents.
const (
	// Identity policies belong to a principal: they name none, and need a resource.
	Identity Kind = iota + 1
	// Resource policies belong to a resource: they name principals, and without a Resource mean
	// the one they belong to.
	Resource
	// Trust policies belong to a role: they name those who may assume it, and speak of sts: alone.
	Trust
)

// Document is a policy that was understood whole. It does not change.
type Document struct {
	ID         string
	statements []statement
}

// statement is one rule.
type statement struct {
	sid        string
	deny       bool
	actions    matcher
	resources  *matcher // nil: the resource the document belongs to
	principals *principals
	conditions []condition
	variables  bool // the version has them
}

// matcher is a list of patterns, of which one must match, or none if it is negated.
type matcher struct {
	patterns []string
	negated  bool
}

// The versions of the language.
const (
	version2008 = "2008-10-17"
	version2012 = "2012-10-17"
)

// Parse reads a document of the given kind, at most MaxDocumentChars long. Errors are ErrMalformed
// and say which statement is wrong and how.
func Parse(kind Kind, text string) (*Document, error) {
	if n := utf8.RuneCountInString(text); n > MaxDocumentChars {
		return nil, fmt.Errorf("%w: %d characters, more than %d", ErrMalformed, n, MaxDocumentChars)
	}
	d, err := parse(kind, text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return d, nil
}

func parse(kind Kind, text string) (*Document, error) {
	value, err := decode([]byte(text))
	if err != nil {
		return nil, err
	}
	o, ok := value.(*object)
	if !ok {
		return nil, errors.New("a policy is a JSON object")
	}
	if err := o.known("Version", "Id", "Statement"); err != nil {
		return nil, err
	}
	variables, err := version(o)
	if err != nil {
		return nil, err
	}
	d := &Document{}
	if d.ID, err = optionalText(o, "Id"); err != nil {
		return nil, err
	}
	return d, d.readStatements(kind, o.values["Statement"], variables)
}

// version says whether the document has variables.
func version(o *object) (bool, error) {
	v, err := optionalText(o, "Version")
	switch {
	case err != nil:
		return false, err
	case v == "" || v == version2008:
		return false, nil
	case v == version2012:
		return true, nil
	}
	return false, fmt.Errorf("version %q is not known: use %s", v, version2012)
}

func optionalText(o *object, name string) (string, error) {
	value, there := o.values[name]
	if !there {
		return "", nil
	}
	s, ok := value.(string)
	if !ok {
		return "", fmt.Errorf("%s needs a string", name)
	}
	return s, nil
}

func (d *Document) readStatements(kind Kind, value any, variables bool) error {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	if len(list) == 0 {
		return errors.New("no statement is given")
	}
	sids := map[string]bool{}
	for i, v := range list {
		o, ok := v.(*object)
		if !ok {
			return fmt.Errorf("statement %d is not an object", i+1)
		}
		s, err := readStatement(kind, o)
		if err != nil {
			return fmt.Errorf("statement %d: %w", i+1, err)
		}
		if s.sid != "" && sids[s.sid] {
			return fmt.Errorf("statement %d: Sid %q is there twice", i+1, s.sid)
		}
		sids[s.sid], s.variables = true, variables
		d.statements = append(d.statements, *s)
	}
	return nil
}

func readStatement(kind Kind, o *object) (*statement, error) {
	err := o.known("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource",
		"Condition")
	if err != nil {
		return nil, err
	}
	s := &statement{}
	if s.sid, err = optionalText(o, "Sid"); err != nil {
		return nil, err
	}
	if s.deny, err = effect(o); err != nil {
		return nil, err
	}
	if err := s.readActions(o); err != nil {
		return nil, err
	}
	if kind == Trust && !s.actions.forSTS() {
		return nil, errors.New("a role's trust policy may have no actions but those of sts")
	}
	if err := s.readResources(kind, o); err != nil {
		return nil, err
	}
	if err := s.readPrincipals(kind, o); err != nil {
		return nil, err
	}
	if s.conditions, err = readConditions(o.values["Condition"]); err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	return s, nil
}

func effect(o *object) (deny bool, err error) {
	switch o.values["Effect"] {
	case "Allow":
		return false, nil
	case "Deny":
		return true, nil
	}
	return false, errors.New(`Effect must be "Allow" or "Deny"`)
}

func (s *statement) readActions(o *object) error {
	m, err := readMatcher(o, "Action")
	if err != nil {
		return err
	}
	if m == nil {
		return errors.New("needs Action or NotAction")
	}
	for _, a := range m.patterns {
		if !validAction(a) {
			return fmt.Errorf("%q is not an action: service:Name or *", a)
		}
	}
	s.actions = *m
	return nil
}

func (s *statement) readResources(kind Kind, o *object) error {
	m, err := readMatcher(o, "Resource")
	if err != nil {
		return err
	}
	switch {
	case m == nil && kind == Identity:
		return errors.New("needs Resource or NotResource")
	case m != nil && kind == Trust:
		return errors.New("names a resource, which a role's trust policy does not")
	}
	if m != nil {
		for _, r := range m.patterns {
			if !validResource(r) {
				return fmt.Errorf("%q is not a resource: an ARN or *", r)
			}
		}
	}
	s.resources = m
	return nil
}

// forSTS says whether all actions are of STS.
func (m *matcher) forSTS() bool {
	return !m.negated && !slices.ContainsFunc(m.patterns, func(a string) bool {
		return !strings.HasPrefix(strings.ToLower(a), "sts:")
	})
}

// readMatcher reads the member name or its negation; nil if neither is there.
func readMatcher(o *object, name string) (*matcher, error) {
	plain, there := o.values[name]
	not, negated := o.values["Not"+name]
	if there && negated {
		return nil, fmt.Errorf("has both %s and Not%s", name, name)
	}
	if !there && !negated {
		return nil, nil
	}
	if negated {
		plain = not
	}
	patterns, err := texts(plain)
	if err != nil {
		return nil, fmt.Errorf("%s %w", name, err)
	}
	return &matcher{patterns: patterns, negated: negated}, nil
}
