package firstboot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/image/disks"
	"github.com/nfseal/nfseal/image/gpt"
)

// machine is one whose disks are sparse files.
type machine struct {
	t    *testing.T
	tree disks.Tree
	did  []string // what was asked of the System
	fail string   // what goes wrong
}

func newMachine(t *testing.T) *machine {
	root := t.TempDir()
	m := &machine{t: t, tree: disks.Tree{Sys: filepath.Join(root, "sys"), Dev: filepath.Join(root, "dev")}}
	for _, dir := range []string{filepath.Join(m.tree.Sys, "block"), m.tree.Dev} {
		m.must(os.MkdirAll(dir, 0o755))
	}
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) set(disk, name, value string) {
	m.t.Helper()
	path := filepath.Join(m.tree.Sys, "block", disk, name)
	m.must(errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(value+"\n"), 0o644)))
}

// add gives the machine an empty disk.
func (m *machine) add(name, serial string, size int64) {
	m.t.Helper()
	m.set(name, "size", fmt.Sprint(size/512))
	m.set(name, "ro", "0")
	m.set(name, "queue/logical_block_size", "512")
	m.set(name, "device/serial", serial)
	m.set(name, "wwid", "eui."+serial)
	m.must(os.MkdirAll(filepath.Join(m.tree.Sys, "block", name, "holders"), 0o755))
	f, err := os.Create(filepath.Join(m.tree.Dev, name))
	m.must(err)
	m.must(errors.Join(f.Truncate(size), f.Close()))
}

// write puts bytes on a disk.
func (m *machine) write(name string, offset int64, b []byte) {
	m.t.Helper()
	f, err := os.OpenFile(filepath.Join(m.tree.Dev, name), os.O_WRONLY, 0)
	m.must(err)
	_, err = f.WriteAt(b, offset)
	m.must(errors.Join(err, f.Close()))
}

func (m *machine) do(what, word string) error {
	m.did = append(m.did, what+" "+word)
	if m.fail == what+" "+word {
		return errors.New("the power fails")
	}
	return nil
}

func (m *machine) Reread(d disks.Disk, count int) error {
	for n := 1; n <= count; n++ {
		m.set(d.Name, fmt.Sprintf("%sp%d/partition", d.Name, n), fmt.Sprint(n))
	}
	return m.do("reread", d.Name)
}

func (m *machine) Format(device, label string) error {
	return m.do("format", filepath.Base(device)+" "+label)
}
func (m *machine) Blank(device string) error { return m.do("blank", filepath.Base(device)) }
func (m *machine) Check(device string) error { return m.do("check", filepath.Base(device)) }

// prepare runs Prepare and gives what was asked of the System.
func (m *machine) prepare(c Choice) (*Pair, string, error) {
	m.did = nil
	p, err := Prepare(m.tree, m, c)
	return p, strings.Join(m.did, ","), err
}

const gib = 1 << 30

// system is the disk that the machine was started from.
func (m *machine) system() {
	m.t.Helper()
	m.add("vda", "system", 2*gib)
	table, err := gpt.New(gpt.Derive("system"), 2*gib, 512)
	m.must(err)
	_, err = table.Add(gpt.TypeRoot, gpt.Derive("root"), "root", 0)
	m.must(err)
	f, err := os.OpenFile(filepath.Join(m.tree.Dev, "vda"), os.O_WRONLY, 0)
	m.must(err)
	m.must(errors.Join(table.Write(f), f.Close()))
	m.set("vda", "vda1/partition", "1")
}

const made = "reread nvme0n1,format nvme0n1p1 nfseal-state,format nvme0n1p2 nfseal-data,blank nvme0n1p3"

func TestFirstAndSecondStart(t *testing.T) {
	m := newMachine(t)
	m.system()
	m.add("nvme0n1", "S1", 4*gib)
	p, did, err := m.prepare(Choice{})
	if err != nil || did != made || !p.Fresh || p.Disk.Name != "nvme0n1" || filepath.Base(p.State) != "nvme0n1p1" || filepath.Base(p.Data) != "nvme0n1p2" || filepath.Base(p.Volume) != "nvme0n1p3" {
		t.Fatalf("%+v, %s, %v", p, did, err)
	}
	table, err := p.Disk.Table()
	if err != nil || len(table.Partitions) != 3 || p.VolumeID != table.Partitions[2].ID {
		t.Fatalf("%+v, %+v, %v", p, table, err)
	}
	for i, want := range []struct {
		name string
		size int64
	}{{stateName, stateBytes}, {dataName, gib}, {volumeName, 3*gib - stateBytes - 2<<20}} {
		if _, size := table.Range(table.Partitions[i]); table.Partitions[i].Name != want.name || size != want.size {
			t.Errorf("partition %s of %d bytes, not %s of %d", table.Partitions[i].Name, size, want.name, want.size)
		}
	}
	m.add("nvme1n1", "S2", 4*gib) // another empty disk changes nothing any more
	p, did, err = m.prepare(Choice{})
	if err != nil || did != "check nvme0n1p1,check nvme0n1p2" || p.Fresh {
		t.Errorf("%+v, %s, %v", p, did, err)
	}
}

func TestWhichDiskIsTaken(t *testing.T) {
	for _, c := range []struct {
		name   string
		choice string
		setup  func(m *machine)
		want   string // the disk, or the error
		err    error
	}{
		{"the only empty one", "", func(m *machine) { m.add("sda", "S0", 4*gib); m.write("sda", 0, []byte("data")) }, "nvme0n1", nil},
		{"none", "", func(m *machine) { m.write("nvme0n1", 0, []byte("x")) }, "", ErrNoDisk},
		{"two empty ones", "", func(m *machine) { m.add("nvme1n1", "S2", 4*gib) }, "", ErrAmbiguous},
		{"chosen by serial", "serial:S2", func(m *machine) { m.add("nvme1n1", "S2", 4*gib) }, "nvme1n1", nil},
		{"chosen by WWID", "wwid:eui.S1", func(m *machine) { m.add("nvme1n1", "S2", 4*gib) }, "nvme0n1", nil},
		{"chosen, not there", "serial:S9", func(m *machine) {}, "", ErrNoDisk},
		{"chosen, twice there", "serial:S1", func(m *machine) { m.add("nvme1n1", "S1", 4*gib) }, "", ErrAmbiguous},
		{"chosen, with data", "serial:S1", func(m *machine) { m.write("nvme0n1", 3*gib, []byte("x")) }, "", ErrNotEmpty},
		{"data at the end", "", func(m *machine) { m.write("nvme0n1", 4*gib-1, []byte("x")) }, "", ErrNoDisk},
		{"data in the middle", "", func(m *machine) { m.write("nvme0n1", 2*gib, bytes.Repeat([]byte("x"), 4<<20)) }, "", ErrNoDisk},
		{"a file system's signature", "", func(m *machine) { m.write("nvme0n1", 0x10040, []byte("_BHRfS_M")) }, "", ErrNoDisk},
		{"a partition table alone", "", func(m *machine) { m.write("nvme0n1", 510, []byte{0x55, 0xaa}) }, "", ErrNoDisk},
		{"too small", "", func(m *machine) { m.add("nvme0n1", "S1", 1*gib) }, "", ErrNoDisk},
		{"read-only", "", func(m *machine) { m.set("nvme0n1", "ro", "1") }, "", ErrNoDisk},
		{"partitions", "", func(m *machine) { m.set("nvme0n1", "nvme0n1p1/partition", "1") }, "", ErrNoDisk},
		{"in an array", "", func(m *machine) { m.set("nvme0n1", "holders/md0/x", "") }, "", ErrNoDisk},
		{"zeros and ones", "", func(m *machine) { m.write("nvme0n1", 0, []byte{0xff}) }, "", ErrNoDisk},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.system()
			m.add("nvme0n1", "S1", 4*gib)
			c.setup(m)
			choice, err := ParseChoice(c.choice)
			if err != nil {
				t.Fatal(err)
			}
			p, did, err := m.prepare(choice)
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, not %v", err, c.err)
			}
			if c.err != nil {
				if did != "" {
					t.Errorf("something was done: %s", did)
				}
				return
			}
			if p.Disk.Name != c.want {
				t.Errorf("%s, not %s", p.Disk.Name, c.want)
			}
		})
	}
}

// flash is a disk that has one byte everywhere, but for one at the end.
type flash struct{ all, last byte }

func (f flash) ReadAt(p []byte, offset int64) (int, error) {
	for i := range p {
		if p[i] = f.all; offset+int64(i) == minDiskBytes-1 {
			p[i] = f.last
		}
	}
	return len(p), nil
}

func TestOnesAreEmptyToo(t *testing.T) {
	for f, want := range map[flash]bool{{0, 0}: true, {0xff, 0xff}: true, {0, 0xff}: false, {0xff, 0}: false, {1, 1}: false} {
		if got, err := isEmpty(f, minDiskBytes); got != want || err != nil {
			t.Errorf("%+v: %v, %v", f, got, err)
		}
	}
}

// Whatever is cut short, the next start makes whole, and no disk is taken besides.
func TestLossOfPower(t *testing.T) {
	for _, fail := range strings.Split(made, ",") {
		m := newMachine(t)
		m.add("nvme0n1", "S1", 4*gib)
		m.fail = fail
		if _, _, err := m.prepare(Choice{}); err == nil {
			t.Fatalf("%s: no error", fail)
		}
		m.fail = ""
		p, did, err := m.prepare(Choice{})
		if err != nil || !p.Fresh || !slices.Contains(strings.Split(did, ","), "format nvme0n1p2 nfseal-data") {
			t.Errorf("%s: %+v, %s, %v", fail, p, did, err)
		}
		if _, did, err = m.prepare(Choice{}); err != nil || strings.Contains(did, "format") {
			t.Errorf("%s, third start: %s, %v", fail, did, err)
		}
	}
}

func TestDisksOfAppliances(t *testing.T) {
	m := newMachine(t)
	m.add("nvme0n1", "S1", 4*gib)
	if _, _, err := m.prepare(Choice{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.prepare(Choice{Serial: "S2"}); err == nil {
		t.Error("a disk that is not the chosen one is used")
	}
	content := make([]byte, 1<<20)
	f, err := os.Open(filepath.Join(m.tree.Dev, "nvme0n1"))
	m.must(err)
	_, err = f.Read(content)
	m.must(errors.Join(err, f.Close()))
	m.add("nvme1n1", "S2", 4*gib)
	m.write("nvme1n1", 0, content)
	m.set("nvme1n1", "nvme1n1p1/partition", "1")
	m.set("nvme1n1", "nvme1n1p2/partition", "2")
	m.set("nvme1n1", "nvme1n1p3/partition", "3")
	if _, did, err := m.prepare(Choice{}); !errors.Is(err, ErrAmbiguous) || did != "" {
		t.Errorf("two disks of appliances: %s, %v", did, err)
	}
	if p, did, err := m.prepare(Choice{Serial: "S2"}); err != nil || p.Disk.Name != "nvme1n1" || strings.Contains(did, "format") {
		t.Errorf("the chosen one of two: %s, %v", did, err)
	}
}

// A disk from before there were volumes on partitions goes on as it is.
func TestDiskWithoutAVolume(t *testing.T) {
	m := newMachine(t)
	m.add("nvme0n1", "S1", 4*gib)
	table, err := gpt.New(gpt.Derive("x"), 4*gib, 512)
	m.must(err)
	_, err = table.Add(gpt.TypeState, gpt.Derive("y"), stateName, stateBytes)
	m.must(err)
	_, err = table.Add(gpt.TypeData, gpt.Derive("z"), dataName, 0)
	m.must(err)
	f, err := os.OpenFile(filepath.Join(m.tree.Dev, "nvme0n1"), os.O_WRONLY, 0)
	m.must(err)
	m.must(errors.Join(table.Write(f), f.Close()))
	m.set("nvme0n1", "nvme0n1p1/partition", "1")
	m.set("nvme0n1", "nvme0n1p2/partition", "2")
	p, did, err := m.prepare(Choice{})
	if err != nil || did != "check nvme0n1p1,check nvme0n1p2" || p.Volume != "" || p.Fresh {
		t.Errorf("%+v, %s, %v", p, did, err)
	}
}

func TestDataSize(t *testing.T) {
	for disk, want := range map[int64]int64{2 * gib: gib / 2, 64 * gib: 16 * gib, 100 * gib: 16 * gib, 1 << 40: 64 * gib} {
		if got := dataSize(disk); got != want {
			t.Errorf("disk of %d: %d, not %d", disk, got, want)
		}
	}
}

func TestBlank(t *testing.T) {
	device := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(device, bytes.Repeat([]byte{1}, 3*edgeBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Linux{}).Blank(device); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(device)
	zeros := make([]byte, edgeBytes)
	if err != nil || len(got) != 3*edgeBytes || !bytes.Equal(got[:edgeBytes], zeros) || !bytes.Equal(got[2*edgeBytes:], zeros) || got[edgeBytes] != 1 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestHalfAPairIsRefused(t *testing.T) {
	m := newMachine(t)
	m.add("nvme0n1", "S1", 4*gib)
	table, err := gpt.New(gpt.Derive("x"), 4*gib, 512)
	m.must(err)
	_, err = table.Add(gpt.TypeData, gpt.Derive("y"), dataName, 0)
	m.must(err)
	f, err := os.OpenFile(filepath.Join(m.tree.Dev, "nvme0n1"), os.O_WRONLY, 0)
	m.must(err)
	m.must(errors.Join(table.Write(f), f.Close()))
	m.add("nvme1n1", "S2", 4*gib)
	if _, did, err := m.prepare(Choice{}); err == nil || did != "" {
		t.Errorf("%s, %v", did, err)
	}
}

func TestParseChoice(t *testing.T) {
	for text, want := range map[string]Choice{"": {}, " serial:A:B \n": {Serial: "A:B"}, "wwid:eui.1": {WWID: "eui.1"}} {
		if got, err := ParseChoice(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"S1", "serial:", "name:sda"} {
		if _, err := ParseChoice(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestToolsOfOthers(t *testing.T) {
	device := filepath.Join(t.TempDir(), "fs")
	f, err := os.Create(device)
	if err == nil {
		err = errors.Join(f.Truncate(64<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/usr/sbin/mkfs.ext4"); err != nil {
		t.Skip("needs e2fsprogs: runs where scripts/deps.sh image has run (make image)")
	}
	var s Linux
	if err := errors.Join(s.Format(device, stateName), s.Format(device, stateName), s.Check(device)); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(device, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(device); err == nil {
		t.Error("zeros are a file system")
	}
}
