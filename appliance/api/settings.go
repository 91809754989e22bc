package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// FileSystemProtection is what UpdateFileSystemProtection takes and gives.
type FileSystemProtection struct {
	ReplicationOverwriteProtection string `json:"ReplicationOverwriteProtection"`
}

// UpdateFileSystemRequest is the body of UpdateFileSystem. What is not given stays.
type UpdateFileSystemRequest struct {
	ThroughputMode               string  `json:"ThroughputMode,omitempty"`
	ProvisionedThroughputInMibps float64 `json:"ProvisionedThroughputInMibps,omitempty"`
}

// LifecyclePolicy is one transition: one of its fields is set.
type LifecyclePolicy struct {
	TransitionToIA                  string `json:"TransitionToIA,omitempty"`
	TransitionToPrimaryStorageClass string `json:"TransitionToPrimaryStorageClass,omitempty"`
	TransitionToArchive             string `json:"TransitionToArchive,omitempty"`
}

// LifecycleConfiguration is what PutLifecycleConfiguration takes and DescribeLifecycleConfiguration gives. It is
// kept, and moves nothing: there is one storage class.
type LifecycleConfiguration struct {
	LifecyclePolicies []LifecyclePolicy `json:"LifecyclePolicies"`
}

// BackupPolicy is whether a file system is backed up automatically.
type BackupPolicy struct {
	Status string `json:"Status"`
}

// BackupPolicyDescription is what PutBackupPolicy takes and DescribeBackupPolicy gives.
type BackupPolicyDescription struct {
	BackupPolicy *BackupPolicy `json:"BackupPolicy"`
}

// The values of settings that are on or off.
const (
	settingEnabled  = "ENABLED"
	settingDisabled = "DISABLED"
)

func protectionOf(f *catalog.FileSystem) string {
	if f.OverwriteProtection == "" {
		return settingEnabled // the default of EFS
	}
	return f.OverwriteProtection
}

// fileSystem is the file system id; catalog.ErrNotFound as EFS says it.
func (s *Server) fileSystem(ctx context.Context, id string) (catalog.FileSystem, error) {
	all, err := s.o.Backend.FileSystems(ctx)
	if err != nil {
		return catalog.FileSystem{}, err
	}
	i := slices.IndexFunc(all, func(f catalog.FileSystem) bool { return f.ID == id })
	if i < 0 {
		return catalog.FileSystem{}, noFileSystem(id, catalog.ErrNotFound)
	}
	return all[i], nil
}

// changing does an operation that changes the record of the file system id, and answers with what of makes of
// it then.
func (s *Server) changing(
	id string, status int, change func(*catalog.FileSystem), of func(f *catalog.FileSystem) (any, error),
) prepared {
	return func(r *http.Request) (int, any, error) {
		f, err := s.o.Backend.ChangeFileSystem(r.Context(), id, func(f *catalog.FileSystem) error {
			change(f)
			return nil
		})
		if err != nil {
			return 0, nil, noFileSystem(id, err)
		}
		body, err := of(&f)
		return status, body, err
	}
}

// showing does an operation that answers with what of makes of the file system id.
func (s *Server) showing(id string, of func(f *catalog.FileSystem) (any, error)) prepared {
	return func(r *http.Request) (int, any, error) {
		f, err := s.fileSystem(r.Context(), id)
		if err != nil {
			return 0, nil, err
		}
		body, err := of(&f)
		return http.StatusOK, body, err
	}
}

func (s *Server) prepareUpdate(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	var request UpdateFileSystemRequest
	if err := firstOf(err, decodeBody(r, &request)); err != nil {
		return nil, err
	}
	parameters["throughputMode"] = clip(request.ThroughputMode)
	if request != (UpdateFileSystemRequest{}) {
		if err := checkThroughput(request.ThroughputMode, request.ProvisionedThroughputInMibps); err != nil {
			return nil, err
		}
	}
	return s.changing(id, http.StatusAccepted, func(f *catalog.FileSystem) {
		if request.ThroughputMode != "" {
			f.ThroughputMode = request.ThroughputMode
		}
	}, func(f *catalog.FileSystem) (any, error) {
		n, err := s.o.Backend.NetworkRecords(r.Context())
		d := s.describe(r, f)
		d.NumberOfMountTargets = n.TargetsOf(id)
		return d, err
	}), nil
}

// prepareProtection keeps the setting, which says whether the file system may become what another is replicated
// to. None is, here.
func (s *Server) prepareProtection(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	var request FileSystemProtection
	if err := firstOf(err, decodeBody(r, &request)); err != nil {
		return nil, err
	}
	wanted := request.ReplicationOverwriteProtection
	parameters["replicationOverwriteProtection"] = clip(wanted)
	if wanted != settingEnabled && wanted != settingDisabled {
		return nil, badRequest("ReplicationOverwriteProtection must be %s or %s", settingEnabled, settingDisabled)
	}
	return s.changing(id, http.StatusOK, func(f *catalog.FileSystem) { f.OverwriteProtection = wanted },
		func(f *catalog.FileSystem) (any, error) { return FileSystemProtection{protectionOf(f)}, nil }), nil
}

func (s *Server) preparePutLifecycle(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	var request LifecycleConfiguration
	if err := firstOf(err, decodeBody(r, &request)); err != nil {
		return nil, err
	}
	policies, err := request.policies()
	if err != nil {
		return nil, err
	}
	return s.changing(id, http.StatusOK, func(f *catalog.FileSystem) { f.Lifecycle = policies }, lifecycleOf), nil
}

func (s *Server) prepareDescribeLifecycle(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	return s.showing(id, lifecycleOf), err
}

func lifecycleOf(f *catalog.FileSystem) (any, error) {
	c := LifecycleConfiguration{LifecyclePolicies: make([]LifecyclePolicy, 0, len(f.Lifecycle))}
	for _, p := range f.Lifecycle {
		c.LifecyclePolicies = append(c.LifecyclePolicies, LifecyclePolicy(p))
	}
	return c, nil
}

// transitionDays are the values of the transitions that wait for a time without access.
var transitionDays = []string{
	"AFTER_1_DAY", "AFTER_7_DAYS", "AFTER_14_DAYS", "AFTER_30_DAYS", "AFTER_60_DAYS", "AFTER_90_DAYS",
	"AFTER_180_DAYS", "AFTER_270_DAYS", "AFTER_365_DAYS",
}

// policies checks a configuration: each transition once at most, one in each policy (EFS API,
// PutLifecycleConfiguration). Without policies there is none any more.
func (c *LifecycleConfiguration) policies() ([]catalog.LifecyclePolicy, error) {
	if c.LifecyclePolicies == nil {
		return nil, badRequest("LifecyclePolicies is needed; an empty list for none")
	}
	seen := make(map[string]bool)
	list := make([]catalog.LifecyclePolicy, 0, len(c.LifecyclePolicies))
	for _, p := range c.LifecyclePolicies {
		name, value, err := p.transition()
		if err != nil {
			return nil, err
		}
		allowed := transitionDays
		if name == "TransitionToPrimaryStorageClass" {
			allowed = []string{"AFTER_1_ACCESS"}
		}
		switch {
		case seen[name]:
			return nil, badRequest("%s stands twice", name)
		case !slices.Contains(allowed, value):
			return nil, badRequest("%s can't be %q", name, clip(value))
		}
		seen[name] = true
		list = append(list, catalog.LifecyclePolicy(p))
	}
	return list, nil
}

// transition is the one that a policy has.
func (p *LifecyclePolicy) transition() (name, value string, err error) {
	given := 0
	for _, t := range [][2]string{
		{"TransitionToIA", p.TransitionToIA}, {"TransitionToArchive", p.TransitionToArchive},
		{"TransitionToPrimaryStorageClass", p.TransitionToPrimaryStorageClass},
	} {
		if t[1] != "" {
			name, value = t[0], t[1]
			given++
		}
	}
	if given != 1 {
		err = badRequest("a lifecycle policy must have one transition")
	}
	return name, value, err
}

// preparePutBackup refuses backups that nobody would make, with the error of a region without AWS Backup.
func (s *Server) preparePutBackup(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	var request BackupPolicyDescription
	if err := firstOf(err, decodeBody(r, &request)); err != nil {
		return nil, err
	}
	if request.BackupPolicy == nil {
		return nil, badRequest("BackupPolicy is needed")
	}
	wanted := request.BackupPolicy.Status
	parameters["status"] = clip(wanted)
	switch wanted {
	case settingEnabled:
		return func(r *http.Request) (int, any, error) {
			if _, err := s.fileSystem(r.Context(), id); err != nil {
				return 0, nil, err
			}
			return 0, nil, invalid("automatic backups are not available: there is no backup service here")
		}, nil
	case settingDisabled:
		return s.changing(id, http.StatusOK, func(f *catalog.FileSystem) { f.BackupPolicy = wanted }, backupOf), nil
	}
	return nil, badRequest("Status must be %s or %s", settingEnabled, settingDisabled)
}

func (s *Server) prepareDescribeBackup(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	return s.showing(id, backupOf), err
}

func backupOf(f *catalog.FileSystem) (any, error) {
	if f.BackupPolicy == "" {
		return nil, &Error{
			Status: http.StatusNotFound, Code: "PolicyNotFound", Message: "File system '" + f.ID + "' has no backup policy.",
		}
	}
	return BackupPolicyDescription{&BackupPolicy{f.BackupPolicy}}, nil
}
