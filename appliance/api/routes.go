package api

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// efsRoute is where an operation of the EFS API is. {id} in the path stands for one part of it.
type efsRoute struct {
	method, path string
	op           efsOperation
}

// efsRoutes are all operations of the EFS API, version 2015-02-01. The first that fits is meant.
var efsRoutes = []efsRoute{
	{"POST", "file-systems", efsOperation{"CreateFileSystem", (*Server).prepareCreate}},
	{"GET", "file-systems", efsOperation{"DescribeFileSystems", (*Server).prepareDescribe}},
	{"GET", "file-systems/replication-configurations", efsOperation{"DescribeReplicationConfigurations", (*Server).prepareDescribeReplications}},
	{"PUT", "file-systems/{id}", efsOperation{"UpdateFileSystem", (*Server).prepareUpdate}},
	{"DELETE", "file-systems/{id}", efsOperation{"DeleteFileSystem", (*Server).prepareDelete}},
	{"PUT", "file-systems/{id}/protection", efsOperation{"UpdateFileSystemProtection", (*Server).prepareProtection}},
	{"PUT", "file-systems/{id}/policy", efsOperation{"PutFileSystemPolicy", (*Server).preparePutPolicy}},
	{"GET", "file-systems/{id}/policy", efsOperation{"DescribeFileSystemPolicy", (*Server).prepareDescribePolicy}},
	{"DELETE", "file-systems/{id}/policy", efsOperation{"DeleteFileSystemPolicy", (*Server).prepareDeletePolicy}},
	{"PUT", "file-systems/{id}/backup-policy", efsOperation{"PutBackupPolicy", (*Server).preparePutBackup}},
	{"GET", "file-systems/{id}/backup-policy", efsOperation{"DescribeBackupPolicy", (*Server).prepareDescribeBackup}},
	{"PUT", "file-systems/{id}/lifecycle-configuration", efsOperation{"PutLifecycleConfiguration", (*Server).preparePutLifecycle}},
	{"GET", "file-systems/{id}/lifecycle-configuration", efsOperation{"DescribeLifecycleConfiguration", (*Server).prepareDescribeLifecycle}},
	{"POST", "file-systems/{id}/replication-configuration", efsOperation{"CreateReplicationConfiguration", (*Server).prepareCreateReplication}},
	{"DELETE", "file-systems/{id}/replication-configuration", efsOperation{"DeleteReplicationConfiguration", (*Server).prepareDeleteReplication}},
	{"POST", "mount-targets", efsOperation{"CreateMountTarget", (*Server).prepareCreateTarget}},
	{"GET", "mount-targets", efsOperation{"DescribeMountTargets", (*Server).prepareDescribeTargets}},
	{"DELETE", "mount-targets/{id}", efsOperation{"DeleteMountTarget", (*Server).prepareDeleteTarget}},
	{"GET", "mount-targets/{id}/security-groups", efsOperation{"DescribeMountTargetSecurityGroups", (*Server).prepareDescribeTargetGroups}},
	{"PUT", "mount-targets/{id}/security-groups", efsOperation{"ModifyMountTargetSecurityGroups", (*Server).prepareSetTargetGroups}},
	{"POST", "access-points", efsOperation{"CreateAccessPoint", (*Server).prepareCreatePoint}},
	{"GET", "access-points", efsOperation{"DescribeAccessPoints", (*Server).prepareDescribePoints}},
	{"DELETE", "access-points/{id}", efsOperation{"DeleteAccessPoint", (*Server).prepareDeletePoint}},
	{"POST", "resource-tags/{id}", efsOperation{"TagResource", (*Server).prepareTag}},
	{"GET", "resource-tags/{id}", efsOperation{"ListTagsForResource", (*Server).prepareListTags}},
	{"DELETE", "resource-tags/{id}", efsOperation{"UntagResource", (*Server).prepareUntag}},
	{"GET", "account-preferences", efsOperation{"DescribeAccountPreferences", (*Server).prepareDescribePreferences}},
	{"PUT", "account-preferences", efsOperation{"PutAccountPreferences", (*Server).preparePutPreferences}},
	{"POST", "create-tags/{id}", efsOperation{"CreateTags", (*Server).prepareCreateTags}},
	{"POST", "delete-tags/{id}", efsOperation{"DeleteTags", (*Server).prepareDeleteTags}},
	{"GET", "tags/{id}", efsOperation{"DescribeTags", (*Server).prepareDescribeTags}},
}

// route finds the operation of a request, and gives the request the path value "id".
func route(r *http.Request) (efsOperation, bool) {
	if strings.HasPrefix(r.URL.Path, ownPath) {
		return ownOperation(r)
	}
	rest, _ := strings.CutPrefix(r.URL.EscapedPath(), efsPath)
	parts := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	for i, part := range parts { // an id may be an ARN, whose slash is escaped
		var err error
		if parts[i], err = url.PathUnescape(part); err != nil {
			return efsOperation{}, false
		}
	}
	for i := range efsRoutes {
		if id, ok := efsRoutes[i].match(r.Method, parts); ok {
			r.SetPathValue("id", id)
			return efsRoutes[i].op, true
		}
	}
	return efsOperation{}, false
}

// match says whether the route is that of a request, and what stands at {id}.
func (e *efsRoute) match(method string, parts []string) (id string, ok bool) {
	wanted := strings.Split(e.path, "/")
	if at := slices.Index(wanted, "{id}"); at >= 0 && at < len(parts) {
		id, wanted[at] = parts[at], parts[at]
	}
	return id, e.method == method && slices.Equal(wanted, parts)
}

// fileSystemID is the file system id in the path of r, which may be an ARN.
func fileSystemID(r *http.Request, parameters map[string]string) (string, error) {
	id := idIn(r.PathValue("id"), ":file-system/")
	if !wellFormed("fs", id) {
		return "", badRequest("%q is not a file system id", clip(r.PathValue("id")))
	}
	parameters["fileSystemId"] = id
	return id, nil
}

// noFileSystem gives catalog.ErrNotFound the code and the words that EFS has for it.
func noFileSystem(id string, err error) error {
	if !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	return &Error{
		Status: http.StatusNotFound, Code: "FileSystemNotFound",
		Message: "File system '" + id + "' does not exist.",
	}
}
