package catalog

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// What the catalog can answer about access points.
var (
	ErrNoAccessPoint     = errors.New("catalog: no such access point")
	ErrAccessPointExists = errors.New("catalog: client token is in use")
	ErrAccessPointLimit  = errors.New("catalog: limit of access points reached")
)

// AccessPoint is a way into a file system that says whom its clients act for and where their root is.
type AccessPoint struct {
	ID         string        `json:"id"` // fsap- and 17 hexadecimal digits
	FileSystem string        `json:"fileSystem"`
	Token      string        `json:"token"` // of one access point only
	Created    time.Time     `json:"created"`
	User       *PosixUser    `json:"user,omitempty"` // nil: clients say themselves whom they act for
	Root       RootDirectory `json:"root"`
	Tags       []Tag         `json:"tags,omitempty"`
}

// PosixUser is whom every request of a client acts for.
type PosixUser struct {
	UID           uint32   `json:"uid"`
	GID           uint32   `json:"gid"`
	SecondaryGIDs []uint32 `json:"secondaryGids,omitempty"`
}

// RootDirectory is the directory that clients see as the root.
type RootDirectory struct {
	Path     string        `json:"path"`               // absolute; "/" is the file system's own root
	Creation *CreationInfo `json:"creation,omitempty"` // nil: it must be there
}

// CreationInfo says how a root directory is made that is not there.
type CreationInfo struct {
	OwnerUID    uint32 `json:"ownerUid"`
	OwnerGID    uint32 `json:"ownerGid"`
	Permissions uint32 `json:"permissions"` // mode bits, 0 to 07777
}

// Name is the value of the tag "Name".
func (a *AccessPoint) Name() string { return nameIn(a.Tags) }

const (
	pointPrefix      = "ap/"      // then the file system's id, a slash and the access point's
	pointIDPrefix    = "apid/"    // then the access point's id; holds the file system's
	pointTokenPrefix = "aptoken/" // then the token; holds the access point's id
	pointCountPrefix = "apcount/" // then the file system's id; holds how many it has
)

var pointID = regexp.MustCompile(`^fsap-[0-9a-f]{17}$`)

// ValidAccessPointID says whether id has the shape of an access point's.
func ValidAccessPointID(id string) bool { return pointID.MatchString(id) }

// CreateAccessPoint records an access point of an available file system under a new id. With a token
// that is in use it returns that access point and ErrAccessPointExists.
func (c *Catalog) CreateAccessPoint(ctx context.Context, a AccessPoint) (AccessPoint, error) {
	for range maxRetries {
		a.ID = newResourceID("fsap")
		existing, err := c.pointByToken(ctx, a.Token)
		if err == nil {
			return existing, ErrAccessPointExists
		}
		if !errors.Is(err, ErrNoAccessPoint) {
			return AccessPoint{}, err
		}
		done, err := c.tryInsertPoint(ctx, &a)
		if err != nil || done {
			return a, err
		}
	}
	return AccessPoint{}, ErrConflict
}

// tryInsertPoint is one attempt: false if something changed meanwhile.
func (c *Catalog) tryInsertPoint(ctx context.Context, a *AccessPoint) (bool, error) {
	revision, err := c.available(ctx, a.FileSystem)
	if err != nil {
		return false, err
	}
	count, countRevision, err := c.countAt(ctx, pointCountPrefix+a.FileSystem)
	if err != nil {
		return false, err
	}
	if count >= MaxAccessPoints {
		return false, fmt.Errorf("%w: %d a file system", ErrAccessPointLimit, MaxAccessPoints)
	}
	record, err := putRecord(pointKey(a), *a)
	if err != nil {
		return false, err
	}
	result, err := c.store.Txn(ctx, Txn{
		If: []Compare{
			{fsPrefix + a.FileSystem, revision}, {pointCountPrefix + a.FileSystem, countRevision},
			{Key: pointTokenPrefix + a.Token}, {Key: pointIDPrefix + a.ID},
		},
		Then: []Op{
			record,
			Put(pointIDPrefix+a.ID, []byte(a.FileSystem)),
			Put(pointTokenPrefix+a.Token, []byte(a.ID)),
			Put(pointCountPrefix+a.FileSystem, []byte(strconv.Itoa(count+1))),
		},
	})
	return result.Succeeded, err
}

func pointKey(a *AccessPoint) string { return pointPrefix + a.FileSystem + "/" + a.ID }

func (c *Catalog) pointByToken(ctx context.Context, token string) (AccessPoint, error) {
	kv, found, _, err := c.store.Get(ctx, pointTokenPrefix+token)
	if err != nil {
		return AccessPoint{}, err
	}
	if !found {
		return AccessPoint{}, ErrNoAccessPoint
	}
	return c.AccessPoint(ctx, string(kv.Value))
}

// AccessPoint returns the access point id or ErrNoAccessPoint.
func (c *Catalog) AccessPoint(ctx context.Context, id string) (AccessPoint, error) {
	a, _, err := c.getPoint(ctx, id)
	return a, err
}

// getPoint returns a record and its revision.
func (c *Catalog) getPoint(ctx context.Context, id string) (AccessPoint, int64, error) {
	of, found, _, err := c.store.Get(ctx, pointIDPrefix+id)
	if err != nil {
		return AccessPoint{}, 0, err
	}
	if !found {
		return AccessPoint{}, 0, fmt.Errorf("%w: %s", ErrNoAccessPoint, id)
	}
	kv, found, _, err := c.store.Get(ctx, pointKey(&AccessPoint{ID: id, FileSystem: string(of.Value)}))
	if err != nil {
		return AccessPoint{}, 0, err
	}
	if !found {
		return AccessPoint{}, 0, fmt.Errorf("%w: %s", ErrNoAccessPoint, id)
	}
	var list []AccessPoint
	if err := appendRecord(&kv, &list); err != nil {
		return AccessPoint{}, 0, err
	}
	return list[0], kv.ModRevision, nil
}

// AccessPoints returns the access points of a file system, or all with "", in the order of file system
// and id.
func (c *Catalog) AccessPoints(ctx context.Context, fileSystem string) ([]AccessPoint, error) {
	prefix := pointPrefix
	if fileSystem != "" {
		prefix += fileSystem + "/"
	}
	kvs, _, err := c.store.Range(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var list []AccessPoint
	for i := range kvs {
		if err := appendRecord(&kvs[i], &list); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// DeleteAccessPoint forgets the access point id.
func (c *Catalog) DeleteAccessPoint(ctx context.Context, id string) error {
	for range maxRetries {
		a, revision, err := c.getPoint(ctx, id)
		if err != nil {
			return err
		}
		count, countRevision, err := c.countAt(ctx, pointCountPrefix+a.FileSystem)
		if err != nil {
			return err
		}
		result, err := c.store.Txn(ctx, Txn{
			If: []Compare{{pointKey(&a), revision}, {pointCountPrefix + a.FileSystem, countRevision}},
			Then: []Op{
				Delete(pointKey(&a)), Delete(pointIDPrefix + id), Delete(pointTokenPrefix + a.Token),
				Put(pointCountPrefix+a.FileSystem, []byte(strconv.Itoa(count-1))),
			},
		})
		if err != nil || result.Succeeded {
			return err
		}
	}
	return ErrConflict
}

// deleteAccessPoints forgets all access points of a file system that is not Available, so that no new
// ones are made meanwhile.
func (c *Catalog) deleteAccessPoints(ctx context.Context, fileSystem string) error {
	list, err := c.AccessPoints(ctx, fileSystem)
	if err != nil {
		return err
	}
	for i := range list {
		if err := c.DeleteAccessPoint(ctx, list[i].ID); err != nil && !errors.Is(err, ErrNoAccessPoint) {
			return err
		}
	}
	return nil
}
