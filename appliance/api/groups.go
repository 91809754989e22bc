package api

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// The EFS API takes subnets and security groups for granted: on AWS, EC2 makes them. Here they are made
// with the operations of this file.

const ownPath = "/nfseal/v1/"

// Subnet says on which interface of this machine the addresses of mount targets are kept.
type Subnet struct {
	ID        string `json:"id,omitempty"` // given by the appliance
	Name      string `json:"name,omitempty"`
	Interface string `json:"interface"`          // its name, mac=… or pci=…
	Prefix    string `json:"prefix"`             // as 10.0.0.0/24 or fd00::/64
	Gateway   string `json:"gateway,omitempty"`  // the way out of the subnet
	Prefix6   string `json:"prefix6,omitempty"`  // the IPv6 one of a subnet with both families
	Gateway6  string `json:"gateway6,omitempty"` // belongs to Prefix6
	MTU       int    `json:"mtu,omitempty"`
	Up        bool   `json:"up,omitempty"` // bring the interface up
}

// SecurityGroup says who may connect to mount targets that have it: nobody, without rules.
type SecurityGroup struct {
	ID          string      `json:"id,omitempty"` // given by the appliance
	Name        string      `json:"name"`
	Description string      `json:"description,omitempty"`
	Rules       []GroupRule `json:"rules"` // not for making one
}

// GroupRule admits TCP from its sources to its ports.
type GroupRule struct {
	ID       string   `json:"id,omitempty"` // given by the appliance
	LowPort  uint16   `json:"lowPort"`
	HighPort uint16   `json:"highPort"`
	Sources  []string `json:"sources"` // prefixes, 1,000 at most
}

// ownOperation finds the operation of a request under ownPath that changes or lists something.
func ownOperation(r *http.Request) (efsOperation, bool) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, ownPath), "/")
	switch shape := parts[0]; {
	case shape == "file-systems" && len(parts) == 3 && parts[2] == "quota" && r.Method == http.MethodPut:
		return efsOperation{"SetFileSystemQuota", (*Server).prepareSetQuota}, true
	case shape == "units" && len(parts) == 3 && parts[2] == "volume" && r.Method == http.MethodPut:
		return efsOperation{"GrowVolume", (*Server).prepareGrowVolume}, true
	case shape == "subnets" && len(parts) == 1:
		return byMethod(r.Method, "CreateSubnet", (*Server).prepareCreateSubnet, "DescribeSubnets", (*Server).prepareSubnets)
	case shape == "subnets" && len(parts) == 2 && r.Method == http.MethodDelete:
		return efsOperation{"DeleteSubnet", (*Server).prepareDeleteSubnet}, true
	case shape == "security-groups" && len(parts) == 1:
		return byMethod(r.Method, "CreateSecurityGroup", (*Server).prepareCreateGroup, "DescribeSecurityGroups", (*Server).prepareGroups)
	case shape == "security-groups" && len(parts) == 2 && r.Method == http.MethodDelete:
		return efsOperation{"DeleteSecurityGroup", (*Server).prepareDeleteGroup}, true
	case shape == "security-groups" && len(parts) == 3 && parts[2] == "rules" && r.Method == http.MethodPost:
		return efsOperation{"AuthorizeSecurityGroup", (*Server).prepareAddRule}, true
	case shape == "security-groups" && len(parts) == 4 && parts[2] == "rules" && r.Method == http.MethodDelete:
		return efsOperation{"RevokeSecurityGroup", (*Server).prepareRemoveRule}, true
	}
	return efsOperation{}, false
}

type preparer = func(s *Server, r *http.Request, parameters map[string]string) (prepared, error)

func byMethod(method, create string, doCreate preparer, list string, doList preparer) (efsOperation, bool) {
	switch method {
	case http.MethodPost:
		return efsOperation{create, doCreate}, true
	case http.MethodGet:
		return efsOperation{list, doList}, true
	}
	return efsOperation{}, false
}

// idAt takes the id that is the part of the path at a place.
func idAt(r *http.Request, place int, kind string, parameters map[string]string) (string, error) {
	id := strings.Split(strings.TrimPrefix(r.URL.Path, ownPath), "/")[place]
	if !wellFormed(kind, id) {
		return "", badRequest("%q is not an id %s-…", clip(id), kind)
	}
	parameters[kind] = id
	return id, nil
}

func (s *Server) prepareCreateSubnet(r *http.Request, parameters map[string]string) (prepared, error) {
	var request Subnet
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	parameters["interface"], parameters["prefix"] = clip(request.Interface), clip(request.Prefix)
	subnet := catalog.Subnet{Name: request.Name, Interface: request.Interface, MTU: request.MTU, Up: request.Up}
	var err error
	if subnet.Prefix, subnet.Gateway, err = parseRange(request.Prefix, request.Gateway); err != nil {
		return nil, err
	}
	if request.Prefix6 != "" || request.Gateway6 != "" {
		if subnet.Prefix6, subnet.Gateway6, err = parseRange(request.Prefix6, request.Gateway6); err != nil {
			return nil, err
		}
	}
	return func(r *http.Request) (int, any, error) {
		made, err := s.o.Backend.CreateSubnet(r.Context(), subnet)
		return http.StatusCreated, describeSubnet(&made), err
	}, nil
}

// parseRange reads a prefix and the gateway that it may have.
func parseRange(prefix, gateway string) (p netip.Prefix, g netip.Addr, err error) {
	if p, err = netip.ParsePrefix(prefix); err != nil {
		return p, g, badRequest("prefix %q is not one as 10.0.0.0/24", clip(prefix))
	}
	if gateway == "" {
		return p, g, nil
	}
	if g, err = netip.ParseAddr(gateway); err != nil {
		return p, g, badRequest("gateway %q is not an address", clip(gateway))
	}
	return p, g, nil
}

func describeSubnet(s *catalog.Subnet) Subnet {
	d := Subnet{ID: s.ID, Name: s.Name, Interface: s.Interface, Prefix: s.Prefix.String(), MTU: s.MTU, Up: s.Up}
	if s.Gateway.IsValid() {
		d.Gateway = s.Gateway.String()
	}
	if s.Prefix6.IsValid() {
		d.Prefix6 = s.Prefix6.String()
	}
	if s.Gateway6.IsValid() {
		d.Gateway6 = s.Gateway6.String()
	}
	return d
}

func (s *Server) prepareSubnets(*http.Request, map[string]string) (prepared, error) {
	return func(r *http.Request) (int, any, error) {
		n, err := s.o.Backend.NetworkRecords(r.Context())
		list := make([]Subnet, 0, len(n.Subnets))
		for i := range n.Subnets {
			list = append(list, describeSubnet(&n.Subnets[i]))
		}
		return http.StatusOK, list, err
	}, nil
}

func (s *Server) prepareDeleteSubnet(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := idAt(r, 1, "subnet", parameters)
	return func(r *http.Request) (int, any, error) {
		return http.StatusNoContent, nil, s.o.Backend.DeleteSubnet(r.Context(), id)
	}, err
}

func (s *Server) prepareCreateGroup(r *http.Request, parameters map[string]string) (prepared, error) {
	var request SecurityGroup
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	parameters["name"] = clip(request.Name)
	if len(request.Rules) > 0 {
		return nil, badRequest("rules are added to a security group that exists")
	}
	group := catalog.SecurityGroup{Name: request.Name, Description: request.Description}
	return func(r *http.Request) (int, any, error) {
		made, err := s.o.Backend.CreateSecurityGroup(r.Context(), group)
		return http.StatusCreated, describeGroup(&made), err
	}, nil
}

func describeGroup(g *catalog.SecurityGroup) SecurityGroup {
	d := SecurityGroup{ID: g.ID, Name: g.Name, Description: g.Description, Rules: make([]GroupRule, 0, len(g.Rules))}
	for i := range g.Rules {
		d.Rules = append(d.Rules, describeRule(&g.Rules[i]))
	}
	return d
}

func describeRule(r *catalog.Rule) GroupRule {
	d := GroupRule{ID: r.ID, LowPort: r.LowPort, HighPort: r.HighPort, Sources: make([]string, 0, len(r.Sources))}
	for _, p := range r.Sources {
		d.Sources = append(d.Sources, p.String())
	}
	return d
}

func (s *Server) prepareGroups(*http.Request, map[string]string) (prepared, error) {
	return func(r *http.Request) (int, any, error) {
		n, err := s.o.Backend.NetworkRecords(r.Context())
		list := make([]SecurityGroup, 0, len(n.Groups))
		for i := range n.Groups {
			list = append(list, describeGroup(&n.Groups[i]))
		}
		return http.StatusOK, list, err
	}, nil
}

func (s *Server) prepareDeleteGroup(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := idAt(r, 1, "sg", parameters)
	return func(r *http.Request) (int, any, error) {
		return http.StatusNoContent, nil, s.o.Backend.DeleteSecurityGroup(r.Context(), id)
	}, err
}

func (s *Server) prepareAddRule(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := idAt(r, 1, "sg", parameters)
	if err != nil {
		return nil, err
	}
	var request GroupRule
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	parameters["sources"] = clip(strings.Join(request.Sources, " "))
	rule := catalog.Rule{LowPort: request.LowPort, HighPort: request.HighPort}
	for _, text := range request.Sources {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() {
			return nil, badRequest("source %q is not a prefix as 10.0.0.0/8, without bits behind its length", clip(text))
		}
		rule.Sources = append(rule.Sources, p)
	}
	return func(r *http.Request) (int, any, error) {
		made, err := s.o.Backend.AddRule(r.Context(), id, rule)
		return http.StatusCreated, describeRule(&made), err
	}, nil
}

func (s *Server) prepareRemoveRule(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := idAt(r, 1, "sg", parameters)
	if err != nil {
		return nil, err
	}
	rule, err := idAt(r, 3, "sgr", parameters)
	return func(r *http.Request) (int, any, error) {
		return http.StatusNoContent, nil, s.o.Backend.RemoveRule(r.Context(), id, rule)
	}, err
}
