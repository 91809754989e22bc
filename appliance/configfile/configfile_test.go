package configfile

import (
	"errors"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite docs/config.md")

// problems are what is said of a text, without the name of the file.
func problems(t *testing.T, text string) string {
	t.Helper()
	_, err := Parse("f", []byte(text))
	if err == nil {
		return ""
	}
	var p *Problems
	if !errors.As(err, &p) {
		t.Fatalf("%q: %v is no *Problems", text, err)
	}
	return strings.ReplaceAll(p.Error(), "f:", "")
}

func TestProblemsSayWhereAndWhat(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"nfs:\n  squosh: root\n", `2:3: nfs.squosh is not known; did you mean squash? It is one of listen,`},
		{"nfs:\n  squash: rot\n", `2:11: nfs.squash: "rot" is not one of none, root, all`},
		{"storage:\n  memory: 512\n", `2:11: storage.memory: "512" has no unit: write 512MiB or 512GiB`},
		{"storage:\n  memory: 2GB\n", `2:11: storage.memory: "2GB" is in a unit that means different things`},
		{"storage:\n  memory: lots\n", `2:11: storage.memory: "lots" is not a size`},
		{"nfs:\n  lease: 15\n", `2:10: nfs.lease: "15" is not a time such as`},
		{"nfs:\n  lease: 15ms\n", `2:10: nfs.lease: "15ms" is not a time such as`},
		{"keys:\n  check-every: 2m\n", `2:16: keys.check-every: "2m" is not a time such as 10s, from 1s to 60s`},
		{"nfs:\n  delegations: yes\n", `2:16: nfs.delegations: "yes" is not true or false`},
		{"nfs:\n  listen: \":2049\"\n", `2:11: nfs.listen is a list`},
		{"nfs:\n  listen: []\n", `2:11: nfs.listen is empty`},
		{"nfs:\n  listen: [2049]\n", `2:12: nfs.listen[0]: "2049" is not an address host:port`},
		{"nfs:\n  listen: [\":70000\"]\n", `2:12: nfs.listen[0]: ":70000" is not an address host:port`},
		{"nfs:\n  squash:\n", `2:3: nfs.squash has no value`},
		{"nfs: 7\n", `1:6: nfs is a section`},
		{"nfs:\n  squash: {a: b}\n", `nfs.squash wants one of none, root, all, not a section`},
		{"nfs:\n  squash: *x\n", `2:11: this is not YAML: unknown anchor`},
		{"nfs: &x {squash: root}\ntls: *x\n", `2:6: tls is a section`},
		{"nfs:\n  squash: &x root\n", `nfs.squash wants one of none, root, all, not an anchor`},
		{"nfs:\n  squash: !!str root\n", `nfs.squash wants one of none, root, all, not an anchor`},
		{"network:\n  mount-addresses:\n    - interface: eth0\n", `network.mount-addresses[0] lacks address`},
		{"network:\n  workers: 0\n", `2:12: network.workers: "0" is not a whole number from 1 to 1024`},
		{"network:\n  workers: 2.5\n", `2:12: network.workers: "2.5" is not a whole number from 1 to 1024`},
		{"network:\n  new-connections: fast\n", `2:20: network.new-connections: "fast" is not connections a second`},
		{"tls:\n  client-ca: ca.pem\n", `2:14: tls.client-ca: "ca.pem" is not an absolute path`},
		{"nfs:\n  squash: root\n  squash: all\n", `3:3: nfs.squash is there twice, first in line 2`},
		{"nfs: {squash: root}\nnfs: {squash: all}\n", `2:1: nfs is there twice, first in line 1`},
		{"nfs:\n\tsquash: root\n", `2:1: this is not YAML`},
		{"nfs: {squash: root\n", `this is not YAML`},
		{"a: 1\n---\nb: 2\n", `a second document begins here`},
		{"- a\n", `1:1: the file is a section`},
		{"7: 8\n", `1:1: 7 is not known`},
		{"? [a]\n: 8\n", `1:3: this is no key`},
		{"<<: {a: b}\n", `1:1: << is not known`},
		{"x:\n", `1:1: x is not known`},
		{"nfs: {squash: rot, lease: soon}\n", "1:15: nfs.squash: \"rot\" is not one of none, root, all\n1:27: nfs.lease"},
		{strings.Repeat("[", 100_000), `this is not YAML`},
		{strings.Repeat("- ", 100_000), `this is not YAML`},
		{strings.Repeat("x", MaxBytes+1), `1:1: the file is larger than`},
		{"nfs:\n  suffix: " + strings.Repeat("x", maxText+1), `nfs.suffix is longer than 4096 bytes`},
	} {
		if got := problems(t, c.text); !strings.Contains(got, c.want) {
			t.Errorf("%.60q:\n%s\nnot\n%s", c.text, got, c.want)
		}
	}
}

func TestManyProblemsAreCut(t *testing.T) {
	if n := strings.Count(problems(t, strings.Repeat("x: 1\n", 1)+"nfs:\n  advertise: ["+strings.Repeat("'!',", 100)+"'!']\n"), "\n"); n != maxProblems-1 {
		t.Errorf("%d lines", n)
	}
}

func TestEmptyFilesLeaveTheDefaults(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n"} {
		if f, err := Parse("f", []byte(text)); err != nil || !reflect.DeepEqual(f, &File{}) {
			t.Errorf("%q: %+v, %v", text, f, err)
		}
	}
}

func TestSettings(t *testing.T) {
	f, err := Parse("f", []byte(`
keys:
  tpm-pcrs: [7, 11]
nfs:
  listen: [":2049", "[::1]:2049"]
  lease: 2m
  delegations: false
tls:
  certificates:
    - {certificate: /a.pem, key: /a.key}
    - {key: /b.key, certificate: /b.pem}
network:
  mount-addresses:
    - interface: mac=52:54:00:12:34:56
      address: 192.0.2.30/24
      gateway: 192.0.2.1
      mtu: 9000
      up: true
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range f.Settings {
		got = append(got, s.Flag+"="+s.Value)
	}
	want := []string{
		"tpm-pcrs=7+11", "listen=:2049", "listen=[::1]:2049", "lease=120", "no-delegations=true",
		"tls-cert=/a.pem", "tls-key=/a.key", "tls-key=/b.key", "tls-cert=/b.pem",
		"mount-address=mac=52:54:00:12:34:56,192.0.2.30/24,gateway=192.0.2.1,mtu=9000,up",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nnot\n%q", got, want)
	}
	if s := f.Settings[3]; s.Path != "nfs.lease" || s.Position != (Position{6, 10}) {
		t.Errorf("%+v", s)
	}
}

// TestReference keeps docs/config.md at what the code takes.
func TestReference(t *testing.T) {
	const file, mark = "../../docs/config.md", "<!-- From here on made of the code: go test ./appliance/configfile -run TestReference -rewrite -->\n\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, have, ok := strings.Cut(string(text), mark)
	if !ok {
		t.Fatalf("%s has no line %q", file, mark)
	}
	want := Reference() + "## All keys in one file\n\n```yaml\n" + Example() + "```\n"
	if *rewrite {
		if err := os.WriteFile(file, []byte(head+mark+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != want {
		t.Errorf("%s is not what the code takes: go test ./appliance/configfile -run TestReference -rewrite", file)
	}
}

func TestExampleIsRight(t *testing.T) {
	f, err := Parse("example", []byte(Example()))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Settings) < 30 {
		t.Errorf("%+v", f)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(Example()))
	f.Add([]byte("nfs: {squash: &a rot}\n---\n- *a\n"))
	f.Add([]byte("0\n---"))
	f.Add([]byte("nfs:\n\tsquash: \"\\x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse("f", text)
		if err == nil && file == nil {
			t.Error("neither a file nor an error")
		}
		var p *Problems
		if err != nil && !errors.As(err, &p) {
			t.Errorf("%v", err)
		}
		if err != nil && (len(p.List) == 0 || len(p.List) > maxProblems) {
			t.Errorf("%d problems", len(p.List))
		}
	})
}
