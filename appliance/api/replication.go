package api

import (
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// Nothing is replicated by an appliance: there is no other region, and none can be made a destination. So no file
// system has a replication configuration, and what is asked about one is answered so.

// DescribeReplicationsResponse is all replication configurations: none.
type DescribeReplicationsResponse struct {
	Replications []json.RawMessage `json:"Replications"`
}

func noReplication(id string) error {
	return &Error{
		Status: http.StatusNotFound, Code: "ReplicationNotFound",
		Message: "File system '" + id + "' has no replication configuration.",
	}
}

func (s *Server) prepareCreateReplication(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	return s.showing(id, func(*catalog.FileSystem) (any, error) {
		return nil, badRequest("a file system can't be replicated: an appliance knows no other region or file system service")
	}), err
}

func (s *Server) prepareDescribeReplications(r *http.Request, parameters map[string]string) (prepared, error) {
	v := r.URL.Query()
	if err := checkReplicationQuery(v); err != nil {
		return nil, err
	}
	id := idIn(v.Get("FileSystemId"), ":file-system/")
	if id == "" {
		return func(*http.Request) (int, any, error) {
			return http.StatusOK, DescribeReplicationsResponse{Replications: []json.RawMessage{}}, nil
		}, nil
	}
	parameters["fileSystemId"] = id
	return s.showing(id, func(*catalog.FileSystem) (any, error) { return nil, noReplication(id) }), nil
}

// checkReplicationQuery refuses what no page can be told by: no token was ever given.
func checkReplicationQuery(v url.Values) error {
	id := idIn(v.Get("FileSystemId"), ":file-system/")
	switch {
	case v.Has("FileSystemId") && !wellFormed("fs", id):
		return badRequest("FileSystemId is not a file system id")
	case v.Get("NextToken") != "":
		return badRequest("NextToken is not one that was given")
	}
	_, err := pageSize(v, "MaxResults")
	return err
}

func (s *Server) prepareDeleteReplication(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	return s.showing(id, func(*catalog.FileSystem) (any, error) { return nil, noReplication(id) }), err
}
