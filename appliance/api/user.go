package api

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/policy"
)

// usersPath is where users are. The operations have the names of IAM's; errors have its codes.
const usersPath = "/nfseal/v1/users"

// CreateUserRequest is the body of CreateUser.
type CreateUserRequest struct {
	UserName string `json:"UserName"`
}

// PutUserPolicyRequest is the body of PutUserPolicy, and of what gives roles theirs.
type PutUserPolicyRequest struct {
	Policy string `json:"Policy"`
}

// UserDescription is a user, without secrets.
type UserDescription struct {
	UserName   string                 `json:"UserName"`
	UserID     string                 `json:"UserId"`
	Created    time.Time              `json:"CreateDate"`
	AccessKeys []AccessKeyDescription `json:"AccessKeys"`
	Policies   map[string]string      `json:"Policies"`
}

// AccessKeyDescription is an access key; with its secret only when it was just made.
type AccessKeyDescription struct {
	AccessKeyID     string    `json:"AccessKeyId"`
	SecretAccessKey string    `json:"SecretAccessKey,omitempty"`
	Created         time.Time `json:"CreateDate,omitzero"`
}

// ListUsersResponse is all users.
type ListUsersResponse struct {
	Users []UserDescription `json:"Users"`
}

// userOperations are those on users, by method and path.
var userOperations = map[string]efsOperation{
	"GET " + usersPath:                                  {"ListUsers", (*Server).prepareListUsers},
	"POST " + usersPath:                                 {"CreateUser", (*Server).prepareCreateUser},
	"DELETE " + usersPath + "/{user}":                   {"DeleteUser", (*Server).prepareDeleteUser},
	"POST " + usersPath + "/{user}/access-keys":         {"CreateAccessKey", (*Server).prepareCreateAccessKey},
	"DELETE " + usersPath + "/{user}/access-keys/{key}": {"DeleteAccessKey", (*Server).prepareDeleteAccessKey},
	"PUT " + usersPath + "/{user}/policies/{policy}":    {"PutUserPolicy", (*Server).preparePutUserPolicy},
	"DELETE " + usersPath + "/{user}/policies/{policy}": {"DeleteUserPolicy", (*Server).prepareDeleteUserPolicy},
}

// handleIAM adds operations on users or roles to mux.
func (s *Server) handleIAM(mux *http.ServeMux, operations map[string]efsOperation) {
	for pattern, op := range operations {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			status, body, err := s.perform(r, newEvent(r, iamSource, op.name, named(w)), op)
			answer(w, status, body, err)
		})
	}
}

// inPath takes a part of the path that must be valid, and puts it on record.
func inPath(r *http.Request, parameters map[string]string, part string, valid func(string) bool) (string, error) {
	value := r.PathValue(part)
	if !valid(value) {
		return "", validation("%q is not the name of a %s", clip(value), part)
	}
	parameters[part] = value
	return value, nil
}

func validation(format string, args ...any) *Error {
	e := badRequest(format, args...)
	e.Code = "ValidationError"
	return e
}

func (s *Server) prepareListUsers(*http.Request, map[string]string) (prepared, error) {
	return func(r *http.Request) (int, any, error) {
		users, err := s.o.Backend.Users(r.Context())
		if err != nil {
			return 0, nil, err
		}
		response := ListUsersResponse{Users: make([]UserDescription, 0, len(users))}
		for i := range users {
			response.Users = append(response.Users, describeUser(&users[i]))
		}
		return http.StatusOK, response, nil
	}, nil
}

func describeUser(u *catalog.User) UserDescription {
	d := UserDescription{
		UserName: u.Name, UserID: iam.UserID(u.Name, u.Created), Created: u.Created, AccessKeys: []AccessKeyDescription{}, Policies: map[string]string{},
	}
	for _, k := range u.AccessKeys {
		d.AccessKeys = append(d.AccessKeys, AccessKeyDescription{AccessKeyID: k.ID, Created: k.Created})
	}
	maps.Copy(d.Policies, u.Policies)
	return d
}

func (s *Server) prepareCreateUser(r *http.Request, parameters map[string]string) (prepared, error) {
	var request CreateUserRequest
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	if !iam.ValidUser(request.UserName) {
		return nil, validation("%q is not the name of a user: 1 to 64 letters, digits and +=,.@_-", clip(request.UserName))
	}
	parameters["user"] = request.UserName
	return func(r *http.Request) (int, any, error) {
		u, err := s.o.Backend.CreateUser(r.Context(), request.UserName)
		if err != nil {
			return 0, nil, userError(err)
		}
		return http.StatusCreated, describeUser(&u), nil
	}, nil
}

func (s *Server) prepareDeleteUser(r *http.Request, parameters map[string]string) (prepared, error) {
	user, err := inPath(r, parameters, "user", iam.ValidUser)
	return func(r *http.Request) (int, any, error) {
		return http.StatusNoContent, nil, userError(s.o.Backend.DeleteUser(r.Context(), user))
	}, err
}

func (s *Server) prepareCreateAccessKey(r *http.Request, parameters map[string]string) (prepared, error) {
	user, err := inPath(r, parameters, "user", iam.ValidUser)
	return func(r *http.Request) (int, any, error) {
		id, secret, err := s.o.Backend.CreateAccessKey(r.Context(), user)
		if err != nil {
			return 0, nil, userError(err)
		}
		return http.StatusCreated, AccessKeyDescription{AccessKeyID: id, SecretAccessKey: secret.Reveal()}, nil
	}, err
}

func (s *Server) prepareDeleteAccessKey(r *http.Request, parameters map[string]string) (prepared, error) {
	user, err1 := inPath(r, parameters, "user", iam.ValidUser)
	key, err2 := inPath(r, parameters, "key", iam.ValidKeyID)
	return func(r *http.Request) (int, any, error) {
		return http.StatusNoContent, nil, userError(s.o.Backend.DeleteAccessKey(r.Context(), user, key))
	}, firstOf(err1, err2)
}

func (s *Server) preparePutUserPolicy(r *http.Request, parameters map[string]string) (prepared, error) {
	user, err1 := inPath(r, parameters, "user", iam.ValidUser)
	name, err2 := inPath(r, parameters, "policy", iam.ValidPolicyName)
	var request PutUserPolicyRequest
	if err := firstOf(err1, err2, decodeBody(r, &request)); err != nil {
		return nil, err
	}
	parameters["document"] = clip(request.Policy)
	return func(r *http.Request) (int, any, error) {
		return http.StatusNoContent, nil, userError(s.o.Backend.PutUserPolicy(r.Context(), user, name, request.Policy))
	}, nil
}

func (s *Server) prepareDeleteUserPolicy(r *http.Request, parameters map[string]string) (prepared, error) {
	user, err1 := inPath(r, parameters, "user", iam.ValidUser)
	name, err2 := inPath(r, parameters, "policy", iam.ValidPolicyName)
	return func(r *http.Request) (int, any, error) {
		return http.StatusNoContent, nil, userError(s.o.Backend.DeleteUserPolicy(r.Context(), user, name))
	}, firstOf(err1, err2)
}

// firstOf is the first error that is one.
func firstOf(errs ...error) error {
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	return nil
}

// userError gives an error about users or roles the code that IAM has for it.
func userError(err error) error {
	code := func(status int, code string) error {
		return &Error{Status: status, Code: code, Message: err.Error()}
	}
	switch {
	case errors.Is(err, catalog.ErrUserExists), errors.Is(err, catalog.ErrRoleExists):
		return code(http.StatusConflict, "EntityAlreadyExists")
	case errors.Is(err, catalog.ErrNoUser), errors.Is(err, catalog.ErrNoRole), errors.Is(err, catalog.ErrNoAccessKey), errors.Is(err, catalog.ErrNoPolicy):
		return code(http.StatusNotFound, "NoSuchEntity")
	case errors.Is(err, catalog.ErrUserLimit):
		return code(http.StatusConflict, "LimitExceeded")
	case errors.Is(err, policy.ErrMalformed):
		return code(http.StatusBadRequest, "MalformedPolicyDocument")
	}
	return err
}
