package api

import (
	"context"
	"net/http"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/policy"
)

// rolesPath is where roles are. The operations have the names of IAM's; errors have its codes.
const rolesPath = "/nfseal/v1/roles"

// Roles are what others may assume.
type Roles interface {
	// CreateRole makes a role; catalog.ErrRoleExists.
	CreateRole(ctx context.Context, r catalog.Role) (catalog.Role, error)
	// Roles lists all, in the order of their names.
	Roles(ctx context.Context) ([]catalog.Role, error)
	// Role returns one; catalog.ErrNoRole.
	Role(ctx context.Context, name string) (catalog.Role, error)
	// ChangeRole replaces a role by what change makes of it, for its sessions too; change may be called more
	// than once. catalog.ErrNoRole, or an error of change.
	ChangeRole(ctx context.Context, name string, change func(*catalog.Role) error) error
	// DeleteRole forgets a role, and ends its sessions; catalog.ErrNoRole.
	DeleteRole(ctx context.Context, name string) error
}

// CreateRoleRequest is the body of CreateRole.
type CreateRoleRequest struct {
	RoleName string `json:"RoleName"`
	// TrustPolicy says who may assume the role.
	TrustPolicy string `json:"AssumeRolePolicyDocument"`
	// MaxSessionDuration is in seconds; 0 is an hour.
	MaxSessionDuration int `json:"MaxSessionDuration,omitempty"`
}

// RoleDescription is a role.
type RoleDescription struct {
	RoleName           string            `json:"RoleName"`
	RoleID             string            `json:"RoleId"`
	ARN                string            `json:"Arn"`
	Created            time.Time         `json:"CreateDate"`
	MaxSessionDuration int               `json:"MaxSessionDuration"`
	TrustPolicy        string            `json:"AssumeRolePolicyDocument"`
	Policies           map[string]string `json:"Policies"`
}

// ListRolesResponse is all roles.
type ListRolesResponse struct {
	Roles []RoleDescription `json:"Roles"`
}

// roleOperations are those on roles, by method and path.
var roleOperations = map[string]efsOperation{
	"GET " + rolesPath:                                  {"ListRoles", (*Server).prepareListRoles},
	"POST " + rolesPath:                                 {"CreateRole", (*Server).prepareCreateRole},
	"DELETE " + rolesPath + "/{role}":                   {"DeleteRole", (*Server).prepareDeleteRole},
	"PUT " + rolesPath + "/{role}/trust":                {"UpdateAssumeRolePolicy", (*Server).preparePutTrust},
	"PUT " + rolesPath + "/{role}/policies/{policy}":    {"PutRolePolicy", (*Server).preparePutRolePolicy},
	"DELETE " + rolesPath + "/{role}/policies/{policy}": {"DeleteRolePolicy", (*Server).prepareDeleteRolePolicy},
}

func (s *Server) prepareListRoles(*http.Request, map[string]string) (prepared, error) {
	return func(r *http.Request) (int, any, error) {
		all, err := s.o.Backend.Roles(r.Context())
		if err != nil {
			return 0, nil, err
		}
		response := ListRolesResponse{Roles: make([]RoleDescription, 0, len(all))}
		for i := range all {
			response.Roles = append(response.Roles, describeRole(&all[i]))
		}
		return http.StatusOK, response, nil
	}, nil
}

func describeRole(r *catalog.Role) RoleDescription {
	d := RoleDescription{
		RoleName: r.Name, RoleID: iam.RoleID(r.Name, r.Created), ARN: iam.RoleARN(r.Name), Created: r.Created,
		MaxSessionDuration: r.MaxSessionSeconds, TrustPolicy: r.Trust, Policies: r.Policies,
	}
	if d.Policies == nil {
		d.Policies = map[string]string{}
	}
	return d
}

func (s *Server) prepareCreateRole(r *http.Request, parameters map[string]string) (prepared, error) {
	var request CreateRoleRequest
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	if !iam.ValidUser(request.RoleName) {
		return nil, validation("%q is not the name of a role: 1 to 64 letters, digits and +=,.@_-", clip(request.RoleName))
	}
	parameters["role"], parameters["document"] = request.RoleName, clip(request.TrustPolicy)
	if request.MaxSessionDuration == 0 {
		request.MaxSessionDuration = int(iam.DefaultSession.Seconds())
	}
	if d := time.Duration(request.MaxSessionDuration) * time.Second; d < iam.DefaultSession || d > iam.MaxRoleSession {
		return nil, validation("the sessions of a role may last %v to %v", iam.DefaultSession, iam.MaxRoleSession)
	}
	if _, err := policy.Parse(policy.Trust, request.TrustPolicy); err != nil {
		return nil, userError(err)
	}
	role := catalog.Role{Name: request.RoleName, Trust: request.TrustPolicy, MaxSessionSeconds: request.MaxSessionDuration}
	return func(r *http.Request) (int, any, error) {
		made, err := s.o.Backend.CreateRole(r.Context(), role)
		if err != nil {
			return 0, nil, userError(err)
		}
		return http.StatusCreated, describeRole(&made), nil
	}, nil
}

func (s *Server) prepareDeleteRole(r *http.Request, parameters map[string]string) (prepared, error) {
	role, err := inPath(r, parameters, "role", iam.ValidUser)
	return func(r *http.Request) (int, any, error) {
		return http.StatusNoContent, nil, userError(s.o.Backend.DeleteRole(r.Context(), role))
	}, err
}

// putDocument prepares what gives the role in the path a document of a kind.
func (s *Server) putDocument(r *http.Request, parameters map[string]string, kind policy.Kind, put func(*catalog.Role, string) error) (prepared, error) {
	role, err := inPath(r, parameters, "role", iam.ValidUser)
	var request PutUserPolicyRequest
	if err := firstOf(err, decodeBody(r, &request)); err != nil {
		return nil, err
	}
	parameters["document"] = clip(request.Policy)
	if _, err := policy.Parse(kind, request.Policy); err != nil {
		return nil, userError(err)
	}
	return s.changeRole(role, func(r *catalog.Role) error { return put(r, request.Policy) }), nil
}

func (s *Server) changeRole(name string, change func(*catalog.Role) error) prepared {
	return func(r *http.Request) (int, any, error) {
		return http.StatusNoContent, nil, userError(s.o.Backend.ChangeRole(r.Context(), name, change))
	}
}

func (s *Server) preparePutTrust(r *http.Request, parameters map[string]string) (prepared, error) {
	return s.putDocument(r, parameters, policy.Trust, func(role *catalog.Role, text string) error {
		role.Trust = text
		return nil
	})
}

func (s *Server) preparePutRolePolicy(r *http.Request, parameters map[string]string) (prepared, error) {
	name, err := inPath(r, parameters, "policy", iam.ValidPolicyName)
	if err != nil {
		return nil, err
	}
	return s.putDocument(r, parameters, policy.Identity, func(role *catalog.Role, text string) error { return role.PutPolicy(name, text) })
}

func (s *Server) prepareDeleteRolePolicy(r *http.Request, parameters map[string]string) (prepared, error) {
	role, err1 := inPath(r, parameters, "role", iam.ValidUser)
	name, err2 := inPath(r, parameters, "policy", iam.ValidPolicyName)
	return s.changeRole(role, func(r *catalog.Role) error { return r.DeletePolicy(name) }), firstOf(err1, err2)
}
