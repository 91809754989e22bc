package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nfseal/nfseal/internal/uml"
)

// The repository that this is in is cloned to a mount, packed anew, collected and checked, and two work trees of it are the same after a
// remount.
func TestGitRepository(t *testing.T) {
	long(t)
	w := getWorld(t)
	out, err := exec.Command("git", "rev-parse", "--path-format=absolute", "--git-common-dir").Output()
	if err != nil {
		t.Skip(err, "(runs in a checkout: make test-long)")
	}
	for _, vers := range []string{"4.0", "4.1", "4.2"} {
		t.Run(vers, func(t *testing.T) {
			s := startServer(t, w)
			dir := s.mountAt(w.guest, vers, "tls")
			t.Log(complete(t, w.guest, gitWork, strings.TrimSpace(string(out)), dir))
			must(t, w.guest, "umount", dir)
			complete(t, w.guest, gitCheck, s.mountAt(w.guest, vers, "tls"))
			must(t, w.guest, "umount", dir)
			s.sound()
		})
	}
}

const (
	// gitWork clones $1 to $2.
	gitWork = `
set -e
export HOME=/tmp GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
git clone -q --no-local "$1" "$2/clone" && cd "$2/clone"
git repack -a -d -f -q && git gc -q --prune=now && git fsck --full --strict
git worktree add -q --detach ../second
echo "$(git rev-list --count HEAD) commits, $(git ls-files | wc -l) files"`
	gitCheck = `
set -e
export HOME=/tmp GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
cd "$1/clone" && diff -r -x .git . ../second
git fsck --full --strict && [ -z "$(git status --porcelain)" ]`
)

const sqliteRows = 150 // of each client, and transactions

// Two clients write to one SQLite database at once, a row in each transaction, and once more while the daemon is killed. Each row is there,
// for both.
func TestSQLiteFromTwoClients(t *testing.T) {
	long(t)
	w := getWorld(t)
	clients := []*uml.Guest{w.guest, w.anotherClient(t)}
	for _, vers := range []string{"4.0", "4.1", "4.2"} {
		t.Run(vers, func(t *testing.T) {
			s := startServer(t, w, "-lease", "10", "-grace", "10")
			dirs := make([]string, len(clients))
			for i, g := range clients {
				dirs[i] = s.mountAt(g, vers, "tls")
			}
			for _, journal := range []string{"delete", "truncate", "persist"} {
				t.Run(journal, func(t *testing.T) { sqlite(t, clients, dirs, journal, "") })
			}
			t.Run("killed", func(t *testing.T) {
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					sqlite(t, clients, dirs, "delete", "-killed")
				}()
				t.Logf("killed %d times", s.killUntil(ended))
			})
			for i, g := range clients {
				must(t, g, "umount", dirs[i])
			}
			s.sound()
		})
	}
}

func sqlite(t *testing.T, clients []*uml.Guest, dirs []string, journal, suffix string) {
	name := journal + suffix + ".db"
	const write, read = `sqlite3 -bail "$1" <<<"$2"`, `sqlite3 -bail -readonly "$1" "$2"`
	complete(t, clients[0], write, filepath.Join(dirs[0], name), "CREATE TABLE rows(client, n); CREATE INDEX by_n ON rows(n, client);")
	var wg sync.WaitGroup
	for i, g := range clients {
		text := ".timeout 120000\nPRAGMA synchronous=FULL;\nPRAGMA journal_mode=" + journal + ";\n"
		for n := range sqliteRows {
			text += fmt.Sprintf("BEGIN IMMEDIATE; INSERT INTO rows VALUES(%d, %d); COMMIT;\n", i, n)
		}
		wg.Go(func() { complete(t, g, write, filepath.Join(dirs[i], name), text) })
	}
	wg.Wait()
	want := fmt.Sprintf("0|%[1]d|0|%[2]d\n1|%[1]d|0|%[2]d\nok\n", sqliteRows, sqliteRows-1)
	for i, g := range clients {
		got := complete(t, g, read, filepath.Join(dirs[i], name),
			"SELECT client, count(DISTINCT n), min(n), max(n) FROM rows GROUP BY client; PRAGMA integrity_check;")
		if got != want {
			t.Errorf("client %d reads %q, want %q", i, got, want)
		}
	}
}
