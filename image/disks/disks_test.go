package disks

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/nfseal/nfseal/image/gpt"
)

// files writes a tree of files.
func files(t *testing.T, root string, contents map[string]string) {
	t.Helper()
	for name, content := range contents {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func machine(t *testing.T) Tree {
	t.Helper()
	root := t.TempDir()
	files(t, root, map[string]string{
		"sys/block/nvme0n1/size":                     "131072\n",
		"sys/block/nvme0n1/ro":                       "0\n",
		"sys/block/nvme0n1/queue/logical_block_size": "512\n",
		"sys/block/nvme0n1/device/serial":            "S1 \n",
		"sys/block/nvme0n1/wwid":                     "eui.01\n",
		"sys/block/nvme0n1/nvme0n1p2/partition":      "2\n",
		"sys/block/sda/size":                         "8192\n",
		"sys/block/sda/ro":                           "1\n",
		"sys/block/sda/queue/logical_block_size":     "4096\n",
		"sys/block/sda/holders/dm-0/name":            "x\n",
		"sys/block/sdb/size":                         "0\n",
		"sys/block/sdb/ro":                           "0\n",
		"sys/block/sdb/queue/logical_block_size":     "512\n",
		"sys/block/loop0/size":                       "8192\n",
		"sys/block/gone/uevent":                      "",
		"dev/sda":                                    "",
	})
	for _, name := range []string{"nvme0n1", "sdb"} {
		if err := os.MkdirAll(filepath.Join(root, "sys/block", name, "holders"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return Tree{Sys: filepath.Join(root, "sys"), Dev: filepath.Join(root, "dev")}
}

func TestList(t *testing.T) {
	tree := machine(t)
	got, err := tree.List()
	if err != nil {
		t.Fatal(err)
	}
	dev := func(name string) string { return filepath.Join(tree.Dev, name) }
	want := []Disk{
		{Name: "nvme0n1", Path: dev("nvme0n1"), SizeBytes: 64 << 20, SectorBytes: 512, Serial: "S1", WWID: "eui.01", Partitions: map[int]string{2: dev("nvme0n1p2")}},
		{Name: "sda", Path: dev("sda"), SizeBytes: 4 << 20, SectorBytes: 4096, ReadOnly: true, InUse: true, Partitions: map[int]string{}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nnot %+v", got, want)
	}
}

func TestPartition(t *testing.T) {
	tree := machine(t)
	table, err := gpt.New(gpt.Derive("disk"), 64<<20, 512)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []gpt.GUID{gpt.TypeESP, gpt.TypeRoot, gpt.TypeData} {
		if _, err := table.Add(kind, gpt.Derive(kind.String()), "", 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(tree.Dev, "nvme0n1"))
	if err == nil {
		err = errors.Join(f.Truncate(64<<20), table.Write(f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[gpt.GUID][]string{
		gpt.TypeRoot: {filepath.Join(tree.Dev, "nvme0n1p2")},
		gpt.TypeData: nil, // the kernel does not see it
	} {
		got, err := tree.Partition(func(p gpt.Partition) bool { return p.Type == kind })
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v", kind, got, err)
		}
	}
}

func TestCDs(t *testing.T) {
	tree := Tree{Sys: t.TempDir(), Dev: t.TempDir()}
	for _, name := range []string{"sr0", "sr1", "sr2", "sda"} {
		if err := os.MkdirAll(filepath.Join(tree.Sys, "block", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"sr1": "a medium", "sr2": "", "sda": "a disk"} { // sr0 has none
		if err := os.WriteFile(filepath.Join(tree.Dev, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := tree.CDs(); err != nil || len(all) != 1 || all[0].Name != "sr1" || all[0].SizeBytes != 8 || all[0].SectorBytes != 512 {
		t.Errorf("%+v, %v", all, err)
	}
}
