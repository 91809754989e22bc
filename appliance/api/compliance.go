package api

import (
	"context"
	"net/http"

	"github.com/nfseal/nfseal/appliance/compliance"
)

// Finding is what a rule says of a resource.
type Finding = compliance.Finding

const compliancePath = ownPath + "compliance"

// Compliant is the judgement of a rule that is met.
const Compliant = compliance.Compliant

// prepareCompliance answers with all findings.
func (s *Server) prepareCompliance(*http.Request, map[string]string) (prepared, error) {
	return func(r *http.Request) (int, any, error) {
		findings, err := s.o.Backend.Compliance(r.Context())
		return http.StatusOK, findings, err
	}, nil
}

// Compliance asks what each rule says of each resource.
func (c *Client) Compliance(ctx context.Context) ([]Finding, error) {
	var findings []Finding
	err := c.do(ctx, http.MethodGet, compliancePath, nil, &findings)
	return findings, err
}
