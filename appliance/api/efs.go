package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// OwnerID stands for the account in ARNs: an appliance has only one.
const OwnerID = "000000000000"

const efsPath = "/2015-02-01/"

// efsOperation is one operation of the EFS API: it returns the status of success and the body, nil
// for none. Parameters are what the audit log says of the request.
type efsOperation struct {
	name   string
	handle func(s *Server, r *http.Request, parameters map[string]string) (prepared, error)
}

// prepared is a request that was understood and can be carried out.
type prepared func(r *http.Request) (status int, body any, err error)

// route finds the operation of a request under efsPath.
func route(r *http.Request) (efsOperation, bool) {
	if strings.HasPrefix(r.URL.Path, ownPath) {
		return ownOperation(r)
	}
	rest := strings.TrimPrefix(r.URL.Path, efsPath)
	if target, ok := strings.CutPrefix(rest, "mount-targets"); ok {
		return mountTargetOperation(r.Method, target)
	}
	if point, ok := strings.CutPrefix(rest, "access-points"); ok {
		return accessPointOperation(r.Method, point)
	}
	id, isOne := strings.CutPrefix(rest, "file-systems/")
	switch {
	case rest == "file-systems" && r.Method == http.MethodPost:
		return efsOperation{"CreateFileSystem", (*Server).prepareCreate}, true
	case rest == "file-systems" && r.Method == http.MethodGet:
		return efsOperation{"DescribeFileSystems", (*Server).prepareDescribe}, true
	case isOne && strings.HasSuffix(id, "/policy"):
		return policyOperation(r.Method)
	case isOne && r.Method == http.MethodDelete && !strings.Contains(id, "/"):
		return efsOperation{"DeleteFileSystem", (*Server).prepareDelete}, true
	}
	return efsOperation{}, false
}

// notBuilt says whether a request is for an operation of EFS that this version does not have.
func notBuilt(r *http.Request) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, efsPath), "/")
	switch first {
	case "file-systems", "mount-targets", "access-points", "resource-tags", "account-preferences",
		"create-tags", "delete-tags", "tags":
		return true
	}
	return false
}

func (s *Server) prepareCreate(r *http.Request, parameters map[string]string) (prepared, error) {
	var request CreateFileSystemRequest
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	parameters["creationToken"] = clip(request.CreationToken)
	parameters["encrypted"] = strconv.FormatBool(request.Encrypted == nil || *request.Encrypted)
	if request.KmsKeyID != "" {
		parameters["kmsKeyId"] = clip(request.KmsKeyID)
	}
	f, err := request.fileSystem()
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (int, any, error) {
		if s.o.Keys != nil {
			f.ID = catalog.NewID()
			key, err := s.keyForFileSystem(r, request.KmsKeyID, f.ID)
			if err != nil {
				return 0, nil, err
			}
			f.Key = key.ID
		}
		made, err := s.o.Backend.CreateFileSystem(r.Context(), f)
		if errors.Is(err, catalog.ErrTokenExists) {
			return 0, nil, &Error{
				Status: http.StatusConflict, Code: "FileSystemAlreadyExists", FileSystemID: made.ID,
				Message: "File system '" + made.ID + "' already exists with creation token '" + f.CreationToken + "'",
			}
		}
		if err != nil {
			return 0, nil, err
		}
		return http.StatusCreated, s.describe(r, &made), nil
	}, nil
}

func (s *Server) prepareDescribe(r *http.Request, parameters map[string]string) (prepared, error) {
	q, err := parseQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	if q.id != "" {
		parameters["fileSystemId"] = q.id
	}
	return func(r *http.Request) (int, any, error) {
		all, err := s.o.Backend.FileSystems(r.Context())
		if err != nil {
			return 0, nil, err
		}
		n, err := s.o.Backend.NetworkRecords(r.Context())
		if err != nil {
			return 0, nil, err
		}
		found, next := q.page(all)
		if q.id != "" && len(found) == 0 {
			return 0, nil, &Error{
				Status: http.StatusNotFound, Code: "FileSystemNotFound",
				Message: "File system '" + q.id + "' does not exist.",
			}
		}
		response := DescribeFileSystemsResponse{
			FileSystems: make([]FileSystemDescription, 0, len(found)), Marker: q.marker, NextMarker: next,
		}
		for i := range found {
			d := s.describe(r, &found[i])
			d.NumberOfMountTargets = n.TargetsOf(d.FileSystemID)
			response.FileSystems = append(response.FileSystems, d)
		}
		return http.StatusOK, response, nil
	}, nil
}

func (s *Server) prepareDelete(r *http.Request, parameters map[string]string) (prepared, error) {
	id := strings.TrimPrefix(r.URL.Path, efsPath+"file-systems/")
	if !catalog.ValidID(id) {
		return nil, badRequest("%q is not a file system id", clip(id))
	}
	parameters["fileSystemId"] = id
	return func(r *http.Request) (int, any, error) {
		err := s.o.Backend.DeleteFileSystem(r.Context(), id)
		if errors.Is(err, catalog.ErrNotFound) {
			err = &Error{
				Status: http.StatusNotFound, Code: "FileSystemNotFound",
				Message: "File system '" + id + "' does not exist.",
			}
		}
		if errors.Is(err, catalog.ErrInUse) {
			err = &Error{Status: http.StatusConflict, Code: "FileSystemInUse", Message: err.Error()}
		}
		return http.StatusNoContent, nil, err
	}, nil
}

// decodeBody reads one JSON value. Fields that are not known are ignored, as AWS does.
func decodeBody(r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBodyBytes))
	err := decoder.Decode(into)
	var tooLarge *http.MaxBytesError
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
		if decoder.More() {
			return badRequest("the request body holds more than one value")
		}
		return nil
	case errors.As(err, &tooLarge):
		return badRequest("the request body is larger than %d bytes", maxBodyBytes)
	case errors.As(err, &wrongType):
		return badRequest("%s must not be a %s", wrongType.Field, wrongType.Value)
	}
	return badRequest("the request body is not valid JSON")
}

// fileSystem checks a request and says what it asks for.
func (c *CreateFileSystemRequest) fileSystem() (catalog.FileSystem, error) {
	f := catalog.FileSystem{
		CreationToken:   c.CreationToken,
		PerformanceMode: c.PerformanceMode,
		ThroughputMode:  c.ThroughputMode,
	}
	if n := utf8.RuneCountInString(c.CreationToken); n < 1 || n > maxTokenChars {
		return f, badRequest("CreationToken must have 1 to %d characters", maxTokenChars)
	}
	if f.PerformanceMode == "" {
		f.PerformanceMode = "generalPurpose"
	}
	if f.ThroughputMode == "" {
		f.ThroughputMode = "bursting" // the default of EFS
	}
	if err := firstOf(c.refuseNotBuilt(&f), checkKeyName(c.KmsKeyID)); err != nil {
		return f, err
	}
	tags, err := checkTags(c.Tags)
	f.Tags = tags
	return f, err
}

// refuseNotBuilt refuses what would otherwise be an invented success.
func (c *CreateFileSystemRequest) refuseNotBuilt(f *catalog.FileSystem) error {
	switch {
	case c.Encrypted != nil && !*c.Encrypted:
		return badRequest("every file system is encrypted; Encrypted can't be false")
	case c.AvailabilityZoneName != "":
		return badRequest("AvailabilityZoneName is not available: an appliance has no availability zones")
	case c.Backup:
		return badRequest("Backup is not available in this version")
	case f.PerformanceMode != "generalPurpose":
		return badRequest("PerformanceMode must be generalPurpose")
	case f.ThroughputMode != "bursting" && f.ThroughputMode != "elastic":
		return badRequest("ThroughputMode must be bursting or elastic")
	case c.ProvisionedThroughputInMibps != 0:
		return badRequest("ProvisionedThroughputInMibps is not available in this version")
	}
	return nil
}

func checkTags(tags []Tag) ([]catalog.Tag, error) {
	if len(tags) > maxTags {
		return nil, badRequest("at most %d tags are allowed", maxTags)
	}
	seen := make(map[string]bool, len(tags))
	list := make([]catalog.Tag, 0, len(tags))
	for _, tag := range tags {
		if n := utf8.RuneCountInString(tag.Key); n < 1 || n > maxTagKeyChars || strings.HasPrefix(tag.Key, "aws:") {
			return nil, badRequest("a tag's key must have 1 to %d characters and not begin with aws:", maxTagKeyChars)
		}
		if utf8.RuneCountInString(tag.Value) > maxTagValueChars {
			return nil, badRequest("a tag's value must have at most %d characters", maxTagValueChars)
		}
		if seen[tag.Key] {
			return nil, badRequest("a tag's key stands twice")
		}
		seen[tag.Key] = true
		list = append(list, catalog.Tag(tag))
	}
	return list, nil
}

// describeQuery is what DescribeFileSystems asks for.
type describeQuery struct {
	id, token, marker string
	max               int
}

func parseQuery(v url.Values) (describeQuery, error) {
	q := describeQuery{
		id: v.Get("FileSystemId"), token: v.Get("CreationToken"), marker: v.Get("Marker"), max: defaultPage,
	}
	q.id = idIn(q.id, ":file-system/")
	if (q.id != "" || v.Has("FileSystemId")) && !catalog.ValidID(q.id) {
		return q, badRequest("FileSystemId is not a file system id")
	}
	if len(q.marker) > maxMarkerChars || q.marker != "" && !catalog.ValidID(q.marker) {
		return q, badRequest("Marker is not one that was given")
	}
	if text := v.Get("MaxItems"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return q, badRequest("MaxItems must be a number of at least 1")
		}
		q.max = min(n, maxPage)
	}
	return q, nil
}

// page returns what q asks for of all, which is in the order of ids, and the marker of the next
// page: the last id of this one.
func (q *describeQuery) page(all []catalog.FileSystem) (found []catalog.FileSystem, next string) {
	for _, f := range all {
		if f.ID <= q.marker || q.id != "" && f.ID != q.id || q.token != "" && f.CreationToken != q.token {
			continue
		}
		if len(found) == q.max {
			return found, found[len(found)-1].ID
		}
		found = append(found, f)
	}
	return found, ""
}

func (s *Server) describe(r *http.Request, f *catalog.FileSystem) FileSystemDescription {
	d := FileSystemDescription{
		OwnerID:         OwnerID,
		CreationToken:   f.CreationToken,
		FileSystemID:    f.ID,
		FileSystemARN:   FileSystemARN(s.o.Region, f.ID),
		CreationTime:    seconds(f.Created),
		LifeCycleState:  string(f.State),
		Name:            f.Name(),
		PerformanceMode: f.PerformanceMode,
		ThroughputMode:  f.ThroughputMode,
		Encrypted:       true,
		Tags:            make([]Tag, 0, len(f.Tags)),
	}
	for _, tag := range f.Tags {
		d.Tags = append(d.Tags, Tag(tag))
	}
	if f.Key != "" && s.o.Keys != nil {
		d.KmsKeyID = s.o.Keys.ARN(f.Key)
	}
	if used, ok := s.o.Backend.UsedBytes(r.Context(), f.ID); ok {
		d.SizeInBytes = FileSystemSize{Value: used, ValueInStandard: used, Timestamp: seconds(s.o.Clock())}
	}
	return d
}

// FileSystemARN is the resource name of the file system id.
func FileSystemARN(region, id string) string {
	return "arn:aws:elasticfilesystem:" + region + ":" + OwnerID + ":file-system/" + id
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// clip keeps what a caller sent short enough for a record or a message.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
