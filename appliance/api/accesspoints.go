package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// PosixUser is whom an access point's clients act for.
type PosixUser struct {
	UID           *uint32  `json:"Uid"`
	GID           *uint32  `json:"Gid"`
	SecondaryGIDs []uint32 `json:"SecondaryGids,omitempty"`
}

// CreationInfo says how the root directory of an access point is made when it is not there.
type CreationInfo struct {
	OwnerUID    *uint32 `json:"OwnerUid"`
	OwnerGID    *uint32 `json:"OwnerGid"`
	Permissions string  `json:"Permissions"` // octal
}

// RootDirectory is what an access point's clients see as the root.
type RootDirectory struct {
	Path         string        `json:"Path"`
	CreationInfo *CreationInfo `json:"CreationInfo,omitempty"`
}

// CreateAccessPointRequest is the body of CreateAccessPoint.
type CreateAccessPointRequest struct {
	ClientToken   string         `json:"ClientToken"`
	FileSystemID  string         `json:"FileSystemId"`
	PosixUser     *PosixUser     `json:"PosixUser,omitempty"`
	RootDirectory *RootDirectory `json:"RootDirectory,omitempty"`
	Tags          []Tag          `json:"Tags,omitempty"`
}

// AccessPointDescription is an access point as the EFS API shows it.
type AccessPointDescription struct {
	ClientToken    string        `json:"ClientToken"`
	Name           string        `json:"Name,omitempty"`
	Tags           []Tag         `json:"Tags"`
	AccessPointID  string        `json:"AccessPointId"`
	AccessPointARN string        `json:"AccessPointArn"`
	FileSystemID   string        `json:"FileSystemId"`
	PosixUser      *PosixUser    `json:"PosixUser,omitempty"`
	RootDirectory  RootDirectory `json:"RootDirectory"`
	OwnerID        string        `json:"OwnerId"`
	LifeCycleState string        `json:"LifeCycleState"`
}

// DescribeAccessPointsResponse is one page.
type DescribeAccessPointsResponse struct {
	AccessPoints []AccessPointDescription `json:"AccessPoints"`
	NextToken    string                   `json:"NextToken,omitempty"`
}

// AccessPointARN is the resource name of the access point id.
func AccessPointARN(region, id string) string {
	return "arn:aws:elasticfilesystem:" + region + ":" + OwnerID + ":access-point/" + id
}

func (s *Server) prepareCreatePoint(r *http.Request, parameters map[string]string) (prepared, error) {
	var request CreateAccessPointRequest
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	parameters["fileSystemId"], parameters["clientToken"] = clip(request.FileSystemID), clip(request.ClientToken)
	p, err := request.accessPoint()
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (int, any, error) {
		made, err := s.o.Backend.CreateAccessPoint(r.Context(), p)
		if errors.Is(err, catalog.ErrAccessPointExists) {
			return 0, nil, &Error{
				Status: http.StatusConflict, Code: "AccessPointAlreadyExists", AccessPointID: made.ID,
				Message: "Access point '" + made.ID + "' already exists with client token '" + p.Token + "'",
			}
		}
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, s.describePoint(&made), nil
	}, nil
}

// accessPoint checks a request and says what it asks for.
func (c *CreateAccessPointRequest) accessPoint() (catalog.AccessPoint, error) {
	p := catalog.AccessPoint{
		FileSystem: idIn(c.FileSystemID, ":file-system/"), Token: c.ClientToken, Root: catalog.RootDirectory{Path: "/"},
	}
	switch n := len([]rune(c.ClientToken)); {
	case n < 1 || n > maxTokenChars:
		return p, badRequest("ClientToken must have 1 to %d characters", maxTokenChars)
	case !wellFormed("fs", p.FileSystem):
		return p, badRequest("FileSystemId is not a file system id")
	}
	var err error
	if p.User, err = c.PosixUser.user(); err != nil {
		return p, err
	}
	if c.RootDirectory != nil {
		if p.Root, err = c.RootDirectory.root(); err != nil {
			return p, err
		}
	}
	p.Tags, err = checkTags(c.Tags)
	return p, err
}

func (u *PosixUser) user() (*catalog.PosixUser, error) {
	switch {
	case u == nil:
		return nil, nil
	case u.UID == nil || u.GID == nil:
		return nil, badRequest("PosixUser needs Uid and Gid")
	case len(u.SecondaryGIDs) > maxSecondaryGIDs:
		return nil, badRequest("PosixUser may have at most %d SecondaryGids", maxSecondaryGIDs)
	}
	return &catalog.PosixUser{UID: *u.UID, GID: *u.GID, SecondaryGIDs: u.SecondaryGIDs}, nil
}

func (d *RootDirectory) root() (catalog.RootDirectory, error) {
	root := catalog.RootDirectory{Path: d.Path}
	if root.Path == "" {
		root.Path = "/"
	}
	if err := checkRootPath(root.Path); err != nil || d.CreationInfo == nil {
		return root, err
	}
	c := d.CreationInfo
	mode, err := strconv.ParseUint(c.Permissions, 8, 32)
	switch {
	case c.OwnerUID == nil || c.OwnerGID == nil:
		return root, badRequest("CreationInfo needs OwnerUid, OwnerGid and Permissions")
	case err != nil || len(c.Permissions) < 3 || len(c.Permissions) > 4:
		return root, badRequest("Permissions must be three or four octal digits")
	}
	root.Creation = &catalog.CreationInfo{OwnerUID: *c.OwnerUID, OwnerGID: *c.OwnerGID, Permissions: uint32(mode)}
	return root, nil
}

// checkRootPath holds EFS's rules for the path of a root directory.
func checkRootPath(path string) error {
	names, absolute := strings.CutPrefix(path, "/")
	switch {
	case len([]rune(path)) > maxRootPathChars || !absolute:
		return badRequest("Path must begin with a slash and have at most %d characters", maxRootPathChars)
	case names == "":
		return nil
	case strings.Count(path, "/") > maxRootPathDepth:
		return badRequest("Path may name at most %d directories", maxRootPathDepth)
	}
	for name := range strings.SplitSeq(names, "/") {
		if name == "" || name[0] == '.' || strings.ContainsAny(name, "$#<>;`|&?{}^*\n\x00") {
			return badRequest("Path has a directory of a name that is not allowed: %q", clip(name))
		}
	}
	return nil
}

func (s *Server) prepareDescribePoints(r *http.Request, parameters map[string]string) (prepared, error) {
	q, err := parsePointQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{"fileSystemId": q.fileSystem, "accessPointId": q.id} {
		if value != "" {
			parameters[name] = value
		}
	}
	return func(r *http.Request) (int, any, error) {
		if q.id != "" {
			p, err := s.o.Backend.AccessPoint(r.Context(), q.id)
			if err != nil {
				return 0, nil, err
			}
			return http.StatusOK, DescribeAccessPointsResponse{AccessPoints: []AccessPointDescription{s.describePoint(&p)}}, nil
		}
		all, err := s.o.Backend.AccessPoints(r.Context(), q.fileSystem)
		if err != nil {
			return 0, nil, err
		}
		slices.SortFunc(all, func(a, b catalog.AccessPoint) int { return strings.Compare(a.ID, b.ID) })
		found, next := pageOf(all, q.token, q.max, func(p *catalog.AccessPoint) string { return p.ID })
		response := DescribeAccessPointsResponse{AccessPoints: []AccessPointDescription{}, NextToken: next}
		for i := range found {
			response.AccessPoints = append(response.AccessPoints, s.describePoint(&found[i]))
		}
		return http.StatusOK, response, nil
	}, nil
}

// pointQuery is what DescribeAccessPoints asks for. token is the last id of the page before.
type pointQuery struct {
	fileSystem, id, token string
	max                   int
}

func parsePointQuery(v url.Values) (pointQuery, error) {
	q := pointQuery{
		fileSystem: idIn(v.Get("FileSystemId"), ":file-system/"), id: idIn(v.Get("AccessPointId"), ":access-point/"),
		token: v.Get("NextToken"),
	}
	switch {
	case q.fileSystem != "" && q.id != "":
		return q, badRequest("FileSystemId and AccessPointId can't both be given")
	case q.fileSystem != "" && !wellFormed("fs", q.fileSystem):
		return q, badRequest("FileSystemId is not a file system id")
	case q.id != "" && !wellFormed("fsap", q.id):
		return q, badRequest("AccessPointId is not an access point id")
	case q.token != "" && !wellFormed("fsap", q.token):
		return q, badRequest("NextToken is not one that was given")
	}
	var err error
	q.max, err = pageSize(v, "MaxResults")
	return q, err
}

func (s *Server) prepareDeletePoint(r *http.Request, parameters map[string]string) (prepared, error) {
	id := idIn(r.PathValue("id"), ":access-point/")
	if !wellFormed("fsap", id) {
		return nil, badRequest("%q is not an access point id", clip(id))
	}
	parameters["accessPointId"] = id
	return func(r *http.Request) (int, any, error) {
		return http.StatusNoContent, nil, s.o.Backend.DeleteAccessPoint(r.Context(), id)
	}, nil
}

// idIn is the id in text, which is the id itself or an ARN in which kind stands before it.
func idIn(text, kind string) string {
	if arn, ok := strings.CutPrefix(text, "arn:"); ok {
		_, id, _ := strings.Cut(arn, kind)
		return id
	}
	return text
}

func (s *Server) describePoint(p *catalog.AccessPoint) AccessPointDescription {
	d := AccessPointDescription{
		ClientToken: p.Token, Name: p.Name(), Tags: describeTags(p.Tags),
		AccessPointID: p.ID, AccessPointARN: AccessPointARN(s.o.Region, p.ID), FileSystemID: p.FileSystem,
		RootDirectory: RootDirectory{Path: p.Root.Path}, OwnerID: OwnerID, LifeCycleState: string(catalog.Available),
	}
	if u := p.User; u != nil {
		d.PosixUser = &PosixUser{UID: &u.UID, GID: &u.GID, SecondaryGIDs: u.SecondaryGIDs}
	}
	if c := p.Root.Creation; c != nil {
		d.RootDirectory.CreationInfo = &CreationInfo{
			OwnerUID: &c.OwnerUID, OwnerGID: &c.OwnerGID, Permissions: fmt.Sprintf("%03o", c.Permissions),
		}
	}
	return d
}
