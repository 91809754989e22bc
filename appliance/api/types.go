package api

import (
	"context"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/prometheus/client_golang/prometheus"
)

// Tag is a name and a value that users give.
type Tag struct {
	Key   string `json:"Key"`
	Value string `json:"Value"`
}

// CreateFileSystemRequest is the body of CreateFileSystem (EFS API 2015-02-01).
type CreateFileSystemRequest struct {
	CreationToken                string  `json:"CreationToken"`
	PerformanceMode              string  `json:"PerformanceMode,omitempty"`
	ThroughputMode               string  `json:"ThroughputMode,omitempty"`
	ProvisionedThroughputInMibps float64 `json:"ProvisionedThroughputInMibps,omitempty"`
	Encrypted                    *bool   `json:"Encrypted,omitempty"`
	KmsKeyID                     string  `json:"KmsKeyId,omitempty"`
	AvailabilityZoneName         string  `json:"AvailabilityZoneName,omitempty"`
	Backup                       bool    `json:"Backup,omitempty"`
	Tags                         []Tag   `json:"Tags,omitempty"`
}

// FileSystemSize is how much a file system holds, and when that was so (seconds since 1970).
type FileSystemSize struct {
	Value           uint64  `json:"Value"`
	Timestamp       float64 `json:"Timestamp"`
	ValueInIA       uint64  `json:"ValueInIA"`
	ValueInStandard uint64  `json:"ValueInStandard"`
	ValueInArchive  uint64  `json:"ValueInArchive"`
}

// FileSystemDescription is a file system as the EFS API shows it. CreationTime is in seconds since
// 1970.
type FileSystemDescription struct {
	OwnerID              string         `json:"OwnerId"`
	CreationToken        string         `json:"CreationToken"`
	FileSystemID         string         `json:"FileSystemId"`
	FileSystemARN        string         `json:"FileSystemArn"`
	CreationTime         float64        `json:"CreationTime"`
	LifeCycleState       string         `json:"LifeCycleState"`
	Name                 string         `json:"Name,omitempty"`
	NumberOfMountTargets int            `json:"NumberOfMountTargets"`
	SizeInBytes          FileSystemSize `json:"SizeInBytes"`
	PerformanceMode      string         `json:"PerformanceMode"`
	ThroughputMode       string         `json:"ThroughputMode"`
	Encrypted            bool           `json:"Encrypted"`
	// KmsKeyID is the ARN of the KMS key; empty for a file system that was made under the root key.
	KmsKeyID   string                `json:"KmsKeyId,omitempty"`
	Tags       []Tag                 `json:"Tags"`
	Protection *FileSystemProtection `json:"FileSystemProtection,omitempty"`
}

// DescribeFileSystemsResponse is one page.
type DescribeFileSystemsResponse struct {
	FileSystems []FileSystemDescription `json:"FileSystems"`
	Marker      string                  `json:"Marker,omitempty"`
	NextMarker  string                  `json:"NextMarker,omitempty"`
}

// Feature is something that the daemon does, or does not and why.
type Feature struct {
	Name   string `json:"name"`
	On     bool   `json:"on"`
	Detail string `json:"detail"` // what is used, or why it is not on
}

// UnitStatus is how one unit is.
type UnitStatus struct {
	ID          string `json:"id"`
	State       string `json:"state"` // serving, stopped, failed
	Reason      string `json:"reason,omitempty"`
	VolumeBytes int64  `json:"volumeBytes"`
	FreeBytes   int64  `json:"freeBytes"`
	Epoch       uint64 `json:"epoch"`
	FileSystems int    `json:"fileSystems"`
}

// FileSystemStatus is a file system as an operator sees it.
type FileSystemStatus struct {
	ID           string    `json:"id"`
	Name         string    `json:"name,omitempty"`
	State        string    `json:"state"` // life cycle state; "error" when its unit does not serve it
	Reason       string    `json:"reason,omitempty"`
	Unit         string    `json:"unit"`
	Created      time.Time `json:"created"`
	UsedBytes    uint64    `json:"usedBytes"`            // metered: data and metadata
	QuotaBytes   uint64    `json:"quotaBytes,omitempty"` // 0: none
	Key          string    `json:"key,omitempty"`        // of KMS; empty: the root key
	DNSName      string    `json:"dnsName"`
	MountCommand string    `json:"mountCommand"` // on another machine
}

// Status is all that /nfseal/v1/status tells.
type Status struct {
	Version       string             `json:"version"`
	Started       time.Time          `json:"started"`
	DataDir       string             `json:"dataDir"`
	Region        string             `json:"region"`
	Suffix        string             `json:"suffix"`
	Addresses     []string           `json:"addresses"` // host:port of NFS
	CAFile        string             `json:"caFile"`
	OCSPURL       string             `json:"ocspUrl"`
	Connections   int64              `json:"connections"`
	Features      []Feature          `json:"features"`
	Units         []UnitStatus       `json:"units"`
	FileSystems   []FileSystemStatus `json:"fileSystems"`
	MountTemplate string             `json:"mountTemplate"` // mount command with <fs-id> to be filled in
	Host          HostStatus         `json:"host"`
}

// HostStatus is what the kernel says of the machine that the daemon runs on.
type HostStatus struct {
	// Name is the machine's.
	Name                 string `json:"name,omitempty"`
	MemoryBytes          uint64 `json:"memoryBytes"`
	MemoryAvailableBytes uint64 `json:"memoryAvailableBytes"`
	// DaemonBytes is the memory that the daemon has resident.
	DaemonBytes uint64 `json:"daemonBytes"`
	// KernelTLS are the kernel's counters of TLS sessions, by its names (Documentation/networking/tls.rst).
	KernelTLS map[string]uint64 `json:"kernelTls,omitempty"`
}

// Backend is what the API acts on: the appliance.
type Backend interface {
	Integrity
	DataKeyBackend
	Principals
	Roles
	// CreateFileSystem makes a file system, ready for use. With a creation token that is in use the
	// error is catalog.ErrTokenExists and the result that file system.
	CreateFileSystem(ctx context.Context, f catalog.FileSystem) (catalog.FileSystem, error)
	// DeleteFileSystem destroys a file system and all that it holds.
	DeleteFileSystem(ctx context.Context, id string) error
	// FileSystems lists all, in the order of their ids.
	FileSystems(ctx context.Context) ([]catalog.FileSystem, error)
	// ChangeFileSystem replaces the record of an available file system by what change makes of it; change may be
	// called more than once. catalog.ErrNotFound, catalog.ErrWrongState, or an error of change.
	ChangeFileSystem(ctx context.Context, id string, change func(*catalog.FileSystem) error) (catalog.FileSystem, error)
	// ChangeAccessPoint does the same for an access point; catalog.ErrNoAccessPoint.
	ChangeAccessPoint(ctx context.Context, id string, change func(*catalog.AccessPoint) error) (catalog.AccessPoint, error)
	// SetQuota bounds the metered bytes of a file system, at once; 0: nothing does.
	SetQuota(ctx context.Context, id string, quotaBytes uint64) error
	// GrowVolume enlarges the volume of a unit, at once and for good, to a size or, for 0, to that of its
	// device. It returns what it has then; NoUnit, CannotGrow.
	GrowVolume(ctx context.Context, unit string, sizeBytes int64) (int64, error)
	// PutFileSystemPolicy gives a file system a policy, which holds for its connections at once.
	PutFileSystemPolicy(ctx context.Context, id, text string) error
	// FileSystemPolicy returns what was put; catalog.ErrNoPolicy if nothing was.
	FileSystemPolicy(ctx context.Context, id string) (string, error)
	// DeleteFileSystemPolicy takes a file system's policy away, if it has one.
	DeleteFileSystemPolicy(ctx context.Context, id string) error
	// CreateAccessPoint makes an access point. With a token that is in use the error is
	// catalog.ErrAccessPointExists and the result that access point.
	CreateAccessPoint(ctx context.Context, p catalog.AccessPoint) (catalog.AccessPoint, error)
	// AccessPoint returns one; catalog.ErrNoAccessPoint.
	AccessPoint(ctx context.Context, id string) (catalog.AccessPoint, error)
	// AccessPoints lists those of a file system, or all with ""; catalog.ErrNotFound.
	AccessPoints(ctx context.Context, fileSystem string) ([]catalog.AccessPoint, error)
	// DeleteAccessPoint forgets one; its connections can do nothing from then on.
	DeleteAccessPoint(ctx context.Context, id string) error
	// CreateUser makes a user without keys and policies; catalog.ErrUserExists.
	CreateUser(ctx context.Context, name string) (catalog.User, error)
	// Users lists all, in the order of their names.
	Users(ctx context.Context) ([]catalog.User, error)
	// DeleteUser forgets a user with keys and policies; catalog.ErrNoUser.
	DeleteUser(ctx context.Context, name string) error
	// CreateAccessKey gives a user a key. The secret is not to be had again.
	CreateAccessKey(ctx context.Context, user string) (id string, secret iam.Secret, err error)
	// DeleteAccessKey takes a key from a user; catalog.ErrNoAccessKey.
	DeleteAccessKey(ctx context.Context, user, id string) error
	// PutUserPolicy gives a user a policy; policy.ErrMalformed.
	PutUserPolicy(ctx context.Context, user, name, text string) error
	// DeleteUserPolicy takes a policy from a user; catalog.ErrNoPolicy.
	DeleteUserPolicy(ctx context.Context, user, name string) error
	// NetworkRecords are the subnets, security groups and mount targets.
	NetworkRecords(ctx context.Context) (catalog.Network, error)
	// These make and remove them, and the network follows before they return. Errors are the catalog's.
	CreateSubnet(ctx context.Context, s catalog.Subnet) (catalog.Subnet, error)
	DeleteSubnet(ctx context.Context, id string) error
	CreateSecurityGroup(ctx context.Context, g catalog.SecurityGroup) (catalog.SecurityGroup, error)
	DeleteSecurityGroup(ctx context.Context, id string) error
	AddRule(ctx context.Context, group string, r catalog.Rule) (catalog.Rule, error)
	RemoveRule(ctx context.Context, group, rule string) error
	CreateMountTarget(ctx context.Context, m catalog.MountTarget) (catalog.MountTarget, error)
	DeleteMountTarget(ctx context.Context, id string) error
	SetMountTargetGroups(ctx context.Context, id string, groups []string) error
	// MountTargetState is a mount target's life cycle state.
	MountTargetState(m *catalog.MountTarget) string
	// UsedBytes is how much a file system holds, metered: data and metadata; false if it can't be known now.
	UsedBytes(ctx context.Context, id string) (uint64, bool)
	// Status describes everything.
	Status(ctx context.Context) (Status, error)
	// Compliance judges every resource by every rule.
	Compliance(ctx context.Context) ([]Finding, error)
	// Network describes addresses, programs in the kernel and what they counted, after timing the
	// programs for measure.
	Network(ctx context.Context, measure time.Duration) (Network, error)
	// Healthy returns nil if every unit serves, else why not.
	Healthy() error
	// Metrics are shown under /metrics.
	Metrics() prometheus.Gatherer
}
