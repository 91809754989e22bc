package api

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// Life cycle states of mount targets (EFS).
const (
	MountTargetCreating  = "creating" // on record; its interface is not there or down
	MountTargetAvailable = "available"
	MountTargetError     = "error" // its address can't be had; /nfseal/v1/network says why
)

// The values of IpAddressType. Without one, the addresses that are given decide; without any, it is that of the
// subnet's first prefix.
const (
	IPv4Only  = "IPV4_ONLY"
	IPv6Only  = "IPV6_ONLY"
	DualStack = "DUAL_STACK"
)

// CreateMountTargetRequest is the body of CreateMountTarget.
type CreateMountTargetRequest struct {
	FileSystemID   string   `json:"FileSystemId"`
	SubnetID       string   `json:"SubnetId"`
	IPAddress      string   `json:"IpAddress,omitempty"`
	IPv6Address    string   `json:"Ipv6Address,omitempty"`
	IPAddressType  string   `json:"IpAddressType,omitempty"`
	SecurityGroups []string `json:"SecurityGroups,omitempty"`
}

// MountTargetDescription is a mount target as the EFS API shows it.
type MountTargetDescription struct {
	OwnerID            string `json:"OwnerId"`
	MountTargetID      string `json:"MountTargetId"`
	FileSystemID       string `json:"FileSystemId"`
	SubnetID           string `json:"SubnetId"`
	LifeCycleState     string `json:"LifeCycleState"`
	IPAddress          string `json:"IpAddress,omitempty"`
	IPv6Address        string `json:"Ipv6Address,omitempty"`
	NetworkInterfaceID string `json:"NetworkInterfaceId"`
}

// DescribeMountTargetsResponse is one page.
type DescribeMountTargetsResponse struct {
	Marker       string                   `json:"Marker,omitempty"`
	MountTargets []MountTargetDescription `json:"MountTargets"`
	NextMarker   string                   `json:"NextMarker,omitempty"`
}

// MountTargetSecurityGroups is what ModifyMountTargetSecurityGroups takes and
// DescribeMountTargetSecurityGroups gives.
type MountTargetSecurityGroups struct {
	SecurityGroups []string `json:"SecurityGroups"`
}

func (s *Server) prepareCreateTarget(r *http.Request, parameters map[string]string) (prepared, error) {
	var request CreateMountTargetRequest
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	parameters["fileSystemId"], parameters["subnetId"] = clip(request.FileSystemID), clip(request.SubnetID)
	m, err := request.mountTarget()
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (int, any, error) {
		made, err := s.o.Backend.CreateMountTarget(r.Context(), m)
		if err != nil {
			return 0, nil, targetError(err, len(m.Groups))
		}
		return http.StatusOK, s.describeTarget(&made), nil
	}, nil
}

// mountTarget checks a request and says what it asks for.
func (c *CreateMountTargetRequest) mountTarget() (catalog.MountTarget, error) {
	m := catalog.MountTarget{FileSystem: idIn(c.FileSystemID, ":file-system/"), Subnet: c.SubnetID, Groups: c.SecurityGroups}
	switch {
	case !wellFormed("fs", m.FileSystem):
		return m, badRequest("FileSystemId is not a file system id")
	case !wellFormed("subnet", m.Subnet):
		return m, badRequest("SubnetId is not a subnet id")
	}
	if err := checkGroupIDs(m.Groups); err != nil {
		return m, err
	}
	ipv4, err := addressOf(c.IPAddress, netip.IPv4Unspecified(), c.IPAddressType == IPv4Only || c.IPAddressType == DualStack)
	if err != nil {
		return m, err
	}
	ipv6, err := addressOf(c.IPv6Address, netip.IPv6Unspecified(), c.IPAddressType == IPv6Only || c.IPAddressType == DualStack)
	switch {
	case err != nil:
		return m, err
	case c.IPAddressType != "" && c.IPAddressType != DualStack && c.IPAddressType != IPv4Only && c.IPAddressType != IPv6Only:
		return m, badRequest("IpAddressType %q is not %s, %s or %s", clip(c.IPAddressType), IPv4Only, IPv6Only, DualStack)
	case ipv4.IsValid() && ipv6.IsValid() && c.IPAddressType != DualStack:
		return m, badRequest("a mount target with an address of each family needs IpAddressType %s", DualStack)
	}
	m.Address, m.Address6 = ipv4, ipv6
	if !ipv4.IsValid() {
		m.Address, m.Address6 = ipv6, netip.Addr{}
	}
	return m, nil
}

// addressOf reads an address of the family that free is of. Without one it is free, which stands for any,
// if one is wanted.
func addressOf(text string, free netip.Addr, wanted bool) (netip.Addr, error) {
	if text == "" && wanted {
		return free, nil
	}
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Is4() != free.Is4() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() {
		return a, badRequest("%q is not an address of its family", clip(text))
	}
	return a, nil
}

func checkGroupIDs(ids []string) error {
	for _, id := range ids {
		if !wellFormed("sg", id) {
			return badRequest("%q is not a security group id", clip(id))
		}
	}
	return nil
}

// targetError gives errors about mount targets the codes of EFS.
func targetError(err error, groups int) error {
	switch {
	case errors.Is(err, catalog.ErrLimit) && groups > catalog.MaxTargetGroups:
		return &Error{Status: http.StatusBadRequest, Code: "SecurityGroupLimitExceeded", Message: err.Error()}
	case errors.Is(err, catalog.ErrLimit):
		return &Error{Status: http.StatusConflict, Code: "NetworkInterfaceLimitExceeded", Message: err.Error()}
	}
	return err
}

func (s *Server) prepareDescribeTargets(r *http.Request, parameters map[string]string) (prepared, error) {
	q, err := parseTargetQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{"fileSystemId": q.fileSystem, "mountTargetId": q.id, "accessPointId": q.point} {
		if value != "" {
			parameters[name] = value
		}
	}
	return func(r *http.Request) (int, any, error) {
		q := q
		if q.point != "" {
			p, err := s.o.Backend.AccessPoint(r.Context(), q.point)
			if err != nil {
				return 0, nil, err
			}
			q.fileSystem = p.FileSystem
		}
		n, err := s.o.Backend.NetworkRecords(r.Context())
		if err != nil {
			return 0, nil, err
		}
		if q.id != "" && n.MountTarget(q.id) == nil {
			return 0, nil, catalog.ErrNoMountTarget
		}
		if q.fileSystem != "" {
			if _, err := s.fileSystem(r.Context(), q.fileSystem); err != nil {
				return 0, nil, err
			}
		}
		found, next := q.page(n.MountTargets)
		response := DescribeMountTargetsResponse{Marker: q.marker, NextMarker: next, MountTargets: []MountTargetDescription{}}
		for i := range found {
			response.MountTargets = append(response.MountTargets, s.describeTarget(&found[i]))
		}
		return http.StatusOK, response, nil
	}, nil
}

// targetQuery is what DescribeMountTargets asks for.
type targetQuery struct {
	fileSystem, id, marker, point string
	max                           int
}

func parseTargetQuery(v url.Values) (targetQuery, error) {
	q := targetQuery{
		fileSystem: idIn(v.Get("FileSystemId"), ":file-system/"), id: v.Get("MountTargetId"), marker: v.Get("Marker"),
		point: idIn(v.Get("AccessPointId"), ":access-point/"),
	}
	given := 0
	for _, text := range []string{q.fileSystem, q.id, q.point} {
		given += min(len(text), 1)
	}
	switch {
	case given != 1:
		return q, badRequest("one of FileSystemId, MountTargetId and AccessPointId is needed")
	case q.point != "" && !wellFormed("fsap", q.point):
		return q, badRequest("AccessPointId is not an access point id")
	case q.fileSystem != "" && !wellFormed("fs", q.fileSystem):
		return q, badRequest("FileSystemId is not a file system id")
	case q.id != "" && !wellFormed("fsmt", q.id):
		return q, badRequest("MountTargetId is not a mount target id")
	case q.marker != "" && !wellFormed("fsmt", q.marker):
		return q, badRequest("Marker is not one that was given")
	}
	var err error
	q.max, err = pageSize(v, "MaxItems")
	return q, err
}

// page returns what q asks for of all, which is in the order of ids, and the marker of the next page.
func (q *targetQuery) page(all []catalog.MountTarget) (found []catalog.MountTarget, next string) {
	wanted := slices.DeleteFunc(all, func(m catalog.MountTarget) bool {
		return q.id != "" && m.ID != q.id || q.fileSystem != "" && m.FileSystem != q.fileSystem
	})
	return pageOf(wanted, q.marker, q.max, func(m *catalog.MountTarget) string { return m.ID })
}

func (s *Server) describeTarget(m *catalog.MountTarget) MountTargetDescription {
	d := MountTargetDescription{
		OwnerID: OwnerID, MountTargetID: m.ID, FileSystemID: m.FileSystem, SubnetID: m.Subnet,
		LifeCycleState: s.o.Backend.MountTargetState(m), NetworkInterfaceID: "eni-" + strings.TrimPrefix(m.ID, "fsmt-"),
	}
	for _, a := range m.Addresses() {
		if a.Is4() {
			d.IPAddress = a.String()
		} else {
			d.IPv6Address = a.String()
		}
	}
	return d
}

// targetOf is the mount target id in a path.
func targetOf(r *http.Request, parameters map[string]string) (string, error) {
	id := r.PathValue("id")
	if !wellFormed("fsmt", id) {
		return "", badRequest("%q is not a mount target id", clip(id))
	}
	parameters["mountTargetId"] = id
	return id, nil
}

func (s *Server) prepareDeleteTarget(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := targetOf(r, parameters)
	return func(r *http.Request) (int, any, error) {
		return http.StatusNoContent, nil, s.o.Backend.DeleteMountTarget(r.Context(), id)
	}, err
}

func (s *Server) prepareDescribeTargetGroups(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := targetOf(r, parameters)
	return func(r *http.Request) (int, any, error) {
		n, err := s.o.Backend.NetworkRecords(r.Context())
		if err != nil {
			return 0, nil, err
		}
		m := n.MountTarget(id)
		if m == nil {
			return 0, nil, catalog.ErrNoMountTarget
		}
		return http.StatusOK, MountTargetSecurityGroups{m.Groups}, nil
	}, err
}

func (s *Server) prepareSetTargetGroups(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := targetOf(r, parameters)
	if err != nil {
		return nil, err
	}
	var request MountTargetSecurityGroups
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	if err := checkGroupIDs(request.SecurityGroups); err != nil {
		return nil, err
	}
	parameters["securityGroups"] = clip(strings.Join(request.SecurityGroups, " "))
	return func(r *http.Request) (int, any, error) {
		err := s.o.Backend.SetMountTargetGroups(r.Context(), id, request.SecurityGroups)
		return http.StatusNoContent, nil, targetError(err, len(request.SecurityGroups))
	}, nil
}
