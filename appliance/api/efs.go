package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
)

// OwnerID stands for the account in ARNs: an appliance has only one.
const OwnerID = iam.Account

const efsPath = "/2015-02-01/"

// efsOperation is one operation of the EFS API: it returns the status of success and the body, nil
// for none. Parameters are what the audit log says of the request.
type efsOperation struct {
	name   string
	handle func(s *Server, r *http.Request, parameters map[string]string) (prepared, error)
}

// prepared is a request that was understood and can be carried out.
type prepared func(r *http.Request) (status int, body any, err error)

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
			return 0, nil, noFileSystem(q.id, catalog.ErrNotFound)
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
	id, err := fileSystemID(r, parameters)
	return func(r *http.Request) (int, any, error) {
		err := s.o.Backend.DeleteFileSystem(r.Context(), id)
		if errors.Is(err, catalog.ErrInUse) {
			err = &Error{Status: http.StatusConflict, Code: "FileSystemInUse", Message: err.Error()}
		}
		return http.StatusNoContent, nil, noFileSystem(id, err)
	}, err
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
		return &Error{
			Status: http.StatusBadRequest, Code: "UnsupportedAvailabilityZone",
			Message: "AvailabilityZoneName is not available: an appliance has no availability zones",
		}
	case c.Backup:
		return badRequest("Backup is not available in this version")
	case f.PerformanceMode != "generalPurpose":
		return badRequest("PerformanceMode must be generalPurpose")
	}
	return checkThroughput(f.ThroughputMode, c.ProvisionedThroughputInMibps)
}

// checkThroughput refuses what would be a promise: nothing here keeps throughput for one file system. The two
// modes without one are the same here.
func checkThroughput(mode string, provisionedMibps float64) error {
	switch {
	case mode != "bursting" && mode != "elastic":
		return badRequest("ThroughputMode must be bursting or elastic")
	case provisionedMibps != 0:
		return badRequest("ProvisionedThroughputInMibps is not available in this version")
	}
	return nil
}

// describeQuery is what DescribeFileSystems asks for.
type describeQuery struct {
	id, token, marker string
	max               int
}

func parseQuery(v url.Values) (describeQuery, error) {
	q := describeQuery{
		id: v.Get("FileSystemId"), token: v.Get("CreationToken"), marker: v.Get("Marker"),
	}
	q.id = idIn(q.id, ":file-system/")
	if (q.id != "" || v.Has("FileSystemId")) && !wellFormed("fs", q.id) {
		return q, badRequest("FileSystemId is not a file system id")
	}
	if q.id != "" && q.token != "" {
		return q, badRequest("FileSystemId and CreationToken can't both be given")
	}
	if len(q.marker) > maxMarkerChars || q.marker != "" && !wellFormed("fs", q.marker) {
		return q, badRequest("Marker is not one that was given")
	}
	var err error
	q.max, err = pageSize(v, "MaxItems")
	return q, err
}

// page returns what q asks for of all, which is in the order of ids, and the marker of the next page.
func (q *describeQuery) page(all []catalog.FileSystem) (found []catalog.FileSystem, next string) {
	wanted := slices.DeleteFunc(all, func(f catalog.FileSystem) bool {
		return q.id != "" && f.ID != q.id || q.token != "" && f.CreationToken != q.token
	})
	return pageOf(wanted, q.marker, q.max, func(f *catalog.FileSystem) string { return f.ID })
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
		Tags:            describeTags(f.Tags),
		Protection:      &FileSystemProtection{protectionOf(f)},
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
