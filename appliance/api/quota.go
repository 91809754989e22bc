package api

import (
	"net/http"
	"strings"
)

// Quota bounds what a file system may hold: its data and metadata in metered bytes
// (docs/formats/metadata.md). 0: nothing bounds it.
type Quota struct {
	QuotaBytes uint64 `json:"quotaBytes"`
}

// prepareSetQuota sets the quota of the file system in a path file-systems/{id}/quota.
func (s *Server) prepareSetQuota(r *http.Request, parameters map[string]string) (prepared, error) {
	id := strings.Split(strings.TrimPrefix(r.URL.Path, ownPath), "/")[1]
	if !wellFormed("fs", id) {
		return nil, badRequest("%q is not a file system id", clip(id))
	}
	parameters["fileSystemId"] = id
	var request Quota
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	return func(r *http.Request) (int, any, error) {
		err := s.o.Backend.SetQuota(r.Context(), id, request.QuotaBytes)
		return http.StatusOK, request, noFileSystem(id, err)
	}, nil
}
