package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

// tags collects --tag KEY=VALUE.
type tags []api.Tag

// String implements flag.Value.
func (t *tags) String() string { return fmt.Sprint([]api.Tag(*t)) }

// Set implements flag.Value.
func (t *tags) Set(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("%q is not KEY=VALUE", s)
	}
	*t = append(*t, api.Tag{Key: key, Value: value})
	return nil
}

func fsCreate(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "fs create").withDaemon()
	name := f.String("name", "", "`name` of the file system, its tag Name")
	token := f.String("token", "", "creation `token`: a second create with it is refused (default random)")
	key := f.String("kms-key-id", "", "KMS `key` that it is to be under: id, alias/…, or the ARN of either (default alias/aws/elasticfilesystem)")
	var list tags
	f.Var(&list, "tag", "`KEY=VALUE`, may be given more than once")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	if *name != "" {
		list = append(list, api.Tag{Key: "Name", Value: *name})
	}
	if *token == "" {
		*token = rand.Text()
	}
	c, err := f.client(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	made, err := c.CreateFileSystem(ctx, api.CreateFileSystemRequest{CreationToken: *token, KmsKeyID: *key, Tags: list})
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, made)
	}
	fmt.Fprintln(e.stdout, made.FileSystemID)
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(s.FileSystems, func(fs api.FileSystemStatus) bool { return fs.ID == made.FileSystemID })
	if i >= 0 {
		fmt.Fprintf(e.stderr, "on another machine, with %s copied to /etc/nfseal/ca.pem:\n  %s\n", s.CAFile, s.FileSystems[i].MountCommand)
	}
	return nil
}

func fsList() runner {
	return all((*api.Client).FileSystems, rows(func(t *table, fs *api.FileSystemDescription) {
		created := time.UnixMilli(int64(fs.CreationTime * 1000)).UTC().Format(time.DateTime)
		t.row(fs.FileSystemID, fs.Name, fs.LifeCycleState, bytesText(fs.SizeInBytes.Value), created)
	}, "ID", "NAME", "STATE", "SIZE", "CREATED"))
}
