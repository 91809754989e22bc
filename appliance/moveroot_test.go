package appliance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/appliance/trust/trusttest"
)

// moveThenDie, in the environment of the test's own binary, has it move the root key of a data directory and
// kill itself ahead of one of the writes: DIRECTORY, OLD, NEW, and the number of the write.
const moveThenDie = "NFSEAL_TEST_MOVE"

func TestMain(m *testing.M) {
	if what := os.Getenv(moveThenDie); what != "" {
		os.Exit(dieMoving(strings.Split(what, "\n")))
	}
	os.Exit(m.Run())
}

func dieMoving(what []string) int {
	from, fromErr := trust.Parse(what[1])
	to, toErr := trust.Parse(what[2])
	left, numberErr := strconv.Atoi(what[3])
	if err := errors.Join(fromErr, toErr, numberErr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	to.Cost = cheap
	o := testOptions(what[0])
	o.Root = from
	_, err := moveRoot(context.Background(), o, to, func(step string) {
		if left--; left < 0 {
			fmt.Println(step)
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			time.Sleep(time.Hour)
		}
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return 0
}

// killedMoving says ahead of which write the move was killed, or "" if it was done before.
func killedMoving(t *testing.T, dir string, from, to *trust.Options, write int) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), moveThenDie+"="+strings.Join([]string{dir, from.String(), to.String(), strconv.Itoa(write)}, "\n"))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err != nil && (!ok || !status.Signaled()) {
		t.Fatalf("%v: %s", err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// full is a data directory in which everything is that is under the root key, and what is to be found in it.
type full struct {
	dir            string
	root           trust.Options
	under, old     string // a file system under a KMS key, and one under the root key
	user, accessID string
}

func makeFull(t *testing.T, o Options) *full {
	t.Helper()
	r := start(t, o)
	s := &full{dir: o.DataDir, root: o.Root, under: r.create(t, "a"), user: "bob"}
	if s.root.Kind == "" {
		s.root = trust.Options{Kind: trust.KeyFile, Where: layout{o.DataDir}.rootKey()}
	}
	f := catalog.FileSystem{CreationToken: "old", Created: time.Now().UTC(), Unit: r.units[0].ID()}
	f, err := r.catalog.Create(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.make(t.Context(), r.units[0], &f); err != nil {
		t.Fatal(err)
	}
	s.old = f.ID
	for _, id := range []string{s.under, s.old} {
		c, root := r.mount(t, id)
		write(t, c, root, "file", "content of "+id)
	}
	if _, err := r.CreateUser(t.Context(), s.user); err != nil {
		t.Fatal(err)
	}
	if s.accessID, _, err = r.CreateAccessKey(t.Context(), s.user); err != nil {
		t.Fatal(err)
	}
	if _, err := r.kmsKeys.Create(t.Context(), "unused", "", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.kmsKeys.CreateExternal(t.Context(), "without material", "", nil); err != nil {
		t.Fatal(err)
	}
	r.stop(t)
	return s
}

// reads starts with root, and finds everything.
func (s *full) reads(t *testing.T, dir string, root trust.Options) {
	t.Helper()
	o := testOptions(dir)
	o.Root = root
	r := start(t, o)
	for _, id := range []string{s.under, s.old} {
		c, root := r.mount(t, id)
		expect(t, c, root, "file", "content of "+id)
	}
	if _, known := r.table.directory.keys[s.accessID]; !known {
		t.Error("the access key is not known any more")
	}
	r.create(t, "another")
	r.stop(t)
}

func TestMoveRoot(t *testing.T) {
	t.Parallel()
	s := makeFull(t, testOptions(t.TempDir()))
	p, v, paper := trusttest.StartTPM(t), trusttest.StartVault(t), &shown{}
	was := s.root
	for _, to := range []trust.Options{
		passphraseRoot(t, "correct horse battery"),
		passphraseRoot(t, "another horse battery"),
		{Kind: trust.TPM, Where: p.Socket, ShowRecovery: paper.show},
		{Kind: trust.Vault, Where: v.URL, VaultTokenFile: v.TokenFile, VaultCAFile: v.CAFile},
		{Kind: trust.KeyFile, Where: filepath.Join(t.TempDir(), "new.key")},
	} {
		o := testOptions(s.dir)
		o.Root = was
		moved, err := MoveRoot(t.Context(), o, to)
		if err != nil {
			t.Fatalf("to %s: %v", to.String(), err)
		}
		if moved.From == moved.To || moved.Changes < 8 || moved.About == "" {
			t.Errorf("to %s: %+v", to.String(), moved)
		}
		refused(t, s.dir, was, nil, "")
		was = to
		if to.Kind != trust.TPM { // its turn comes with the recovery key
			continue
		}
		p.Extend(7, "another system")
		was = trust.Options{Kind: trust.Recovery, Where: secretFile(t, paper.keys[0])}
	}
	s.reads(t, s.dir, was)
	events := map[string]int{}
	_, _, err := audit.Verify(layout{s.dir}.audit(), func(e *audit.Record) error {
		events[e.Name]++
		return nil
	})
	if err != nil || events["MoveRootOfTrust"] != 5 || events["RootOfTrustMoved"] != 5 || events["ReEncrypt"] < 40 {
		t.Errorf("audit log: %v, %v", events, err)
	}
}

// Killed ahead of any of its writes, a move is gone on with, and nothing is lost.
func TestMoveRootKilled(t *testing.T) {
	t.Parallel()
	s := makeFull(t, testOptions(t.TempDir()))
	to := passphraseRoot(t, "correct horse battery")
	steps := map[string]int{}
	for write := 0; ; write++ {
		dir := filepath.Join(t.TempDir(), "data")
		copyTree(t, s.dir, dir)
		from := trust.Options{Kind: trust.KeyFile, Where: layout{dir}.rootKey()}
		step := killedMoving(t, dir, &from, &to, write)
		if step == "" {
			refused(t, dir, from, ErrOtherRoot, "-root passphrase:")
			s.reads(t, dir, to)
			break
		}
		steps[step]++
		if step != "begin" {
			refused(t, dir, from, ErrMoving, "-root file:… -move-root")
			refused(t, dir, to, ErrMoving, "nothing is lost")
		}
		s.goesOn(t, dir, from, to, write)
	}
	t.Logf("killed ahead of %v", steps)
	for _, step := range []string{"begin", "key of the catalog", "KMS key", "user", "keys of a file system", "copy of a KMS key", "finish"} {
		if steps[step] == 0 {
			t.Errorf("there was no step %q: %v", step, steps)
		}
	}
}

// goesOn finishes a move that was killed: to where it was going, or back to where it came from.
func (s *full) goesOn(t *testing.T, dir string, from, to trust.Options, write int) {
	t.Helper()
	if write%3 == 1 {
		to = from
	}
	o := testOptions(dir)
	o.Root = from
	if _, err := MoveRoot(t.Context(), o, to); err != nil {
		t.Fatalf("killed ahead of write %d, and can't go on: %v", write, err)
	}
	o.Root = to
	if _, err := Check(t.Context(), o); err != nil {
		t.Errorf("killed ahead of write %d: %v", write, err)
	}
	if write == 4 { // a start takes long: one of them, with half of all moved
		s.reads(t, dir, to)
	}
}

// What can't be moved is found before anything is written.
func TestMoveRootRefused(t *testing.T) {
	t.Parallel()
	s := makeFull(t, testOptions(t.TempDir()))
	good := passphraseRoot(t, "correct horse battery")
	r := start(t, testOptions(s.dir))
	if _, err := MoveRoot(t.Context(), testOptions(s.dir), good); !errors.Is(err, ErrInUse) {
		t.Errorf("while a daemon runs: %v", err)
	}
	unit := r.units[0].ID()
	r.stop(t)
	v := trusttest.StartVault(t)
	v.Seal(true)
	_, recovery := trust.NewRecovery()
	inUnit := func(id, name string) string { return filepath.Join("units", unit, "fs", id, name) }
	for name, test := range map[string]struct {
		to     trust.Options
		damage func(dir string) error
		words  string
	}{
		"weak passphrase":   {passphraseRoot(t, "short"), nil, "at least 12"},
		"sealed Vault":      {trust.Options{Kind: trust.Vault, Where: v.URL, VaultTokenFile: v.TokenFile, VaultCAFile: v.CAFile}, nil, "unsealed"},
		"TPM without paper": {trust.Options{Kind: trust.TPM, Where: "/dev/null"}, nil, "recovery key"},
		"a recovery key":    {trust.Options{Kind: trust.Recovery, Where: secretFile(t, recovery)}, nil, "stands in"},
		"swapped keys":      {good, swapKeys(inUnit(s.old, "keys.json")), "invalid ciphertext"},
		"damaged copy":      {good, edit(inUnit(s.under, "kmskey.json"), `"sealed":"`, `"sealed":"AAAA`), "kms:"},
		"damaged CA":        {good, edit("pki/ca.json", `"sealed_key": "`, `"sealed_key": "AAAA`), "ca.json"},
		"damaged key":       {good, edit("catalog/key.json", `"key": "`, `"key": "AAAA`), "key of the catalog"},
		"the other key file": {good, func(dir string) error {
			return errors.Join(os.Remove(layout{dir}.rootKey()), trust.CreateKeyFile(layout{dir}.rootKey()))
		}, "was made with key"},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		copyTree(t, s.dir, dir)
		if test.damage != nil {
			if err := test.damage(dir); err != nil {
				t.Fatal(err)
			}
		}
		before := digest(t, dir)
		_, err := MoveRoot(t.Context(), testOptions(dir), test.to)
		if err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v", name, err)
		}
		if digest(t, dir) != before {
			t.Errorf("%s: the data directory was changed", name)
		}
	}
}
