package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"time"
)

// maxResponseBytes bounds what the client reads of one answer.
const maxResponseBytes = 16 << 20

// Client speaks to a Server, over its unix socket or from afar.
type Client struct {
	where string // for people
	base  string // URL before the paths
	http  *http.Client
	sign  signer // nil on the socket
}

// callTimeout bounds one call.
const callTimeout = 2 * time.Minute

// NewClient returns a client of the daemon whose socket is at path. It connects when it is used.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{where: path, base: "http://nfseald", http: &http.Client{
		Transport: &http.Transport{DialContext: dial, MaxIdleConns: 1},
		Timeout:   callTimeout,
	}}
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks how everything is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.do(ctx, http.MethodGet, "/nfseal/v1/status", nil, &s)
}

// Network asks about addresses and programs in the kernel, which are timed for measure before.
func (c *Client) Network(ctx context.Context, measure time.Duration) (Network, error) {
	var n Network
	return n, c.do(ctx, http.MethodGet, "/nfseal/v1/network?measure="+url.QueryEscape(measure.String()), nil, &n)
}

// CreateFileSystem makes a file system.
func (c *Client) CreateFileSystem(ctx context.Context, r CreateFileSystemRequest) (FileSystemDescription, error) {
	var d FileSystemDescription
	return d, c.do(ctx, http.MethodPost, efsPath+"file-systems", r, &d)
}

// DeleteFileSystem destroys a file system and all that it holds.
func (c *Client) DeleteFileSystem(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, efsPath+"file-systems/"+url.PathEscape(id), nil, nil)
}

// SetQuota bounds what a file system may hold, in metered bytes; 0: nothing does.
func (c *Client) SetQuota(ctx context.Context, id string, quotaBytes uint64) error {
	return c.do(ctx, http.MethodPut, ownPath+"file-systems/"+url.PathEscape(id)+"/quota", Quota{quotaBytes}, nil)
}

// GrowVolume enlarges the volume of a unit, to what its device has for 0, and returns its size.
func (c *Client) GrowVolume(ctx context.Context, unit string, sizeBytes int64) (int64, error) {
	var v VolumeSize
	err := c.do(ctx, http.MethodPut, ownPath+"units/"+url.PathEscape(unit)+"/volume", VolumeSize{sizeBytes}, &v)
	return v.SizeBytes, err
}

// CreateSubnet makes a subnet, whose ID the appliance gives.
func (c *Client) CreateSubnet(ctx context.Context, s Subnet) (Subnet, error) {
	var made Subnet
	return made, c.do(ctx, http.MethodPost, ownPath+"subnets", s, &made)
}

// Subnets lists all subnets.
func (c *Client) Subnets(ctx context.Context) ([]Subnet, error) {
	var all []Subnet
	return all, c.do(ctx, http.MethodGet, ownPath+"subnets", nil, &all)
}

// DeleteSubnet forgets a subnet without mount targets.
func (c *Client) DeleteSubnet(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, ownPath+"subnets/"+url.PathEscape(id), nil, nil)
}

// CreateSecurityGroup makes a security group without rules, whose ID the appliance gives.
func (c *Client) CreateSecurityGroup(ctx context.Context, g SecurityGroup) (SecurityGroup, error) {
	var made SecurityGroup
	return made, c.do(ctx, http.MethodPost, ownPath+"security-groups", g, &made)
}

// SecurityGroups lists all security groups with their rules.
func (c *Client) SecurityGroups(ctx context.Context) ([]SecurityGroup, error) {
	var all []SecurityGroup
	return all, c.do(ctx, http.MethodGet, ownPath+"security-groups", nil, &all)
}

// DeleteSecurityGroup forgets a security group that no mount target has, with its rules.
func (c *Client) DeleteSecurityGroup(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, ownPath+"security-groups/"+url.PathEscape(id), nil, nil)
}

// AddRule adds a rule to a security group; the appliance gives its ID.
func (c *Client) AddRule(ctx context.Context, group string, r GroupRule) (GroupRule, error) {
	var made GroupRule
	return made, c.do(ctx, http.MethodPost, ownPath+"security-groups/"+url.PathEscape(group)+"/rules", r, &made)
}

// RemoveRule takes a rule out of a security group.
func (c *Client) RemoveRule(ctx context.Context, group, rule string) error {
	return c.do(ctx, http.MethodDelete, ownPath+"security-groups/"+url.PathEscape(group)+"/rules/"+url.PathEscape(rule), nil, nil)
}

// CreateMountTarget makes a mount target.
func (c *Client) CreateMountTarget(ctx context.Context, r CreateMountTargetRequest) (MountTargetDescription, error) {
	var made MountTargetDescription
	return made, c.do(ctx, http.MethodPost, efsPath+"mount-targets", r, &made)
}

// MountTargets lists those of a file system, page by page.
func (c *Client) MountTargets(ctx context.Context, fileSystem string) ([]MountTargetDescription, error) {
	var all []MountTargetDescription
	query := url.Values{"MaxItems": {fmt.Sprint(maxPage)}, "FileSystemId": {fileSystem}}
	for {
		var page DescribeMountTargetsResponse
		if err := c.do(ctx, http.MethodGet, efsPath+"mount-targets?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.MountTargets...)
		if page.NextMarker == "" {
			return all, nil
		}
		query.Set("Marker", page.NextMarker)
	}
}

// CreateAccessPoint makes an access point.
func (c *Client) CreateAccessPoint(ctx context.Context, r CreateAccessPointRequest) (AccessPointDescription, error) {
	var made AccessPointDescription
	return made, c.do(ctx, http.MethodPost, efsPath+"access-points", r, &made)
}

// AccessPoints lists those of a file system, page by page.
func (c *Client) AccessPoints(ctx context.Context, fileSystem string) ([]AccessPointDescription, error) {
	var all []AccessPointDescription
	query := url.Values{"MaxResults": {fmt.Sprint(maxPage)}, "FileSystemId": {fileSystem}}
	for {
		var page DescribeAccessPointsResponse
		if err := c.do(ctx, http.MethodGet, efsPath+"access-points?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.AccessPoints...)
		if page.NextToken == "" {
			return all, nil
		}
		query.Set("NextToken", page.NextToken)
	}
}

// DeleteAccessPoint forgets an access point; its connections can do nothing from then on.
func (c *Client) DeleteAccessPoint(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, efsPath+"access-points/"+url.PathEscape(id), nil, nil)
}

// DeleteMountTarget removes a mount target and its address.
func (c *Client) DeleteMountTarget(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, efsPath+"mount-targets/"+url.PathEscape(id), nil, nil)
}

// MountTargetSecurityGroups lists the security groups of a mount target.
func (c *Client) MountTargetSecurityGroups(ctx context.Context, id string) ([]string, error) {
	var g MountTargetSecurityGroups
	err := c.do(ctx, http.MethodGet, efsPath+"mount-targets/"+url.PathEscape(id)+"/security-groups", nil, &g)
	return g.SecurityGroups, err
}

// SetMountTargetSecurityGroups gives a mount target other security groups.
func (c *Client) SetMountTargetSecurityGroups(ctx context.Context, id string, groups []string) error {
	return c.do(ctx, http.MethodPut, efsPath+"mount-targets/"+url.PathEscape(id)+"/security-groups", MountTargetSecurityGroups{groups}, nil)
}

// FileSystems lists all file systems, page by page.
func (c *Client) FileSystems(ctx context.Context) ([]FileSystemDescription, error) {
	var all []FileSystemDescription
	marker := ""
	for {
		query := url.Values{"MaxItems": {fmt.Sprint(maxPage)}}
		if marker != "" {
			query.Set("Marker", marker)
		}
		var page DescribeFileSystemsResponse
		if err := c.do(ctx, http.MethodGet, efsPath+"file-systems?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.FileSystems...)
		if marker = page.NextMarker; marker == "" {
			return all, nil
		}
	}
}

// PutFileSystemPolicy gives a file system a policy.
func (c *Client) PutFileSystemPolicy(ctx context.Context, id, text string) error {
	return c.do(ctx, http.MethodPut, policyPath(id), PutFileSystemPolicyRequest{Policy: text}, nil)
}

// FileSystemPolicy returns a file system's policy as it was put.
func (c *Client) FileSystemPolicy(ctx context.Context, id string) (string, error) {
	var d FileSystemPolicyDescription
	return d.Policy, c.do(ctx, http.MethodGet, policyPath(id), nil, &d)
}

// DeleteFileSystemPolicy takes a file system's policy away.
func (c *Client) DeleteFileSystemPolicy(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, policyPath(id), nil, nil)
}

// CreateUser makes a user.
func (c *Client) CreateUser(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, usersPath, CreateUserRequest{UserName: name}, nil)
}

// Users lists all users.
func (c *Client) Users(ctx context.Context) ([]UserDescription, error) {
	var all ListUsersResponse
	return all.Users, c.do(ctx, http.MethodGet, usersPath, nil, &all)
}

// DeleteUser forgets a user.
func (c *Client) DeleteUser(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, userPath(name), nil, nil)
}

// CreateAccessKey gives a user a key, and returns its secret for the only time.
func (c *Client) CreateAccessKey(ctx context.Context, user string) (AccessKeyDescription, error) {
	var k AccessKeyDescription
	return k, c.do(ctx, http.MethodPost, userPath(user)+"/access-keys", nil, &k)
}

// DeleteAccessKey takes a key from a user.
func (c *Client) DeleteAccessKey(ctx context.Context, user, id string) error {
	return c.do(ctx, http.MethodDelete, userPath(user)+"/access-keys/"+url.PathEscape(id), nil, nil)
}

// PutUserPolicy gives a user a policy.
func (c *Client) PutUserPolicy(ctx context.Context, user, name, text string) error {
	return c.do(ctx, http.MethodPut, userPath(user)+"/policies/"+url.PathEscape(name), PutUserPolicyRequest{Policy: text}, nil)
}

// DeleteUserPolicy takes a policy from a user.
func (c *Client) DeleteUserPolicy(ctx context.Context, user, name string) error {
	return c.do(ctx, http.MethodDelete, userPath(user)+"/policies/"+url.PathEscape(name), nil, nil)
}

// CreateRole makes a role.
func (c *Client) CreateRole(ctx context.Context, r CreateRoleRequest) (RoleDescription, error) {
	var d RoleDescription
	return d, c.do(ctx, http.MethodPost, rolesPath, r, &d)
}

// Roles lists all roles.
func (c *Client) Roles(ctx context.Context) ([]RoleDescription, error) {
	var all ListRolesResponse
	return all.Roles, c.do(ctx, http.MethodGet, rolesPath, nil, &all)
}

// DeleteRole forgets a role.
func (c *Client) DeleteRole(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, rolePath(name), nil, nil)
}

// PutTrustPolicy says who may assume a role.
func (c *Client) PutTrustPolicy(ctx context.Context, role, text string) error {
	return c.do(ctx, http.MethodPut, rolePath(role)+"/trust", PutUserPolicyRequest{Policy: text}, nil)
}

// PutRolePolicy gives a role a policy.
func (c *Client) PutRolePolicy(ctx context.Context, role, name, text string) error {
	return c.do(ctx, http.MethodPut, rolePath(role)+"/policies/"+url.PathEscape(name), PutUserPolicyRequest{Policy: text}, nil)
}

// DeleteRolePolicy takes a policy from a role.
func (c *Client) DeleteRolePolicy(ctx context.Context, role, name string) error {
	return c.do(ctx, http.MethodDelete, rolePath(role)+"/policies/"+url.PathEscape(name), nil, nil)
}

func rolePath(name string) string { return rolesPath + "/" + url.PathEscape(name) }

func userPath(name string) string { return usersPath + "/" + url.PathEscape(name) }

func policyPath(id string) string { return efsPath + "file-systems/" + url.PathEscape(id) + "/policy" }

// do sends one request. A refusal by the API is an *Error.
func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	return c.send(ctx, method, path, nil, body, into)
}

// send is do with headers.
func (c *Client) send(ctx context.Context, method, path string, header http.Header, body, into any) error {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return fmt.Errorf("api: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(payload))
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	maps.Copy(request.Header, header)
	if c.sign != nil {
		digest := sha256.Sum256(payload)
		if err := c.sign(request, hex.EncodeToString(digest[:])); err != nil {
			return err
		}
	}
	return c.answerOf(c.http, request, into)
}

// answerOf sends a request and reads its answer.
func (c *Client) answerOf(h *http.Client, request *http.Request, into any) error {
	response, err := h.Do(request)
	if err != nil {
		return fmt.Errorf("api: no answer at %s: %w", c.where, cause(err))
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxResponseBytes))
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	if response.StatusCode >= 300 {
		return refusal(response.StatusCode, answer)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("api: the answer is not understood: %w", err)
	}
	return nil
}

// cause takes the made-up URL out of an error.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// refusal is the error in an answer of EFS, or of KMS, which spells it in another way.
func refusal(status int, body []byte) error {
	e := struct {
		Error
		Type string `json:"__type"`
	}{Error: Error{Status: status}}
	err := json.Unmarshal(body, &e)
	if e.Code == "" {
		e.Code = e.Type
	}
	if err != nil || e.Code == "" {
		e.Code, e.Message = http.StatusText(status), string(bytes.TrimSpace(body))
	}
	return &e.Error
}

// isCode says whether err is the API's error of that name.
func isCode(err error, code string) bool {
	var known *Error
	return errors.As(err, &known) && known.Code == code
}
