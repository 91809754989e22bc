package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/configfile"
	"github.com/nfseal/nfseal/appliance/oidc"
)

// configFile writes one.
func configFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConfigFileIsReadAndFlagsOverrideIt(t *testing.T) {
	file := configFile(t, `
storage: {data: /srv/nfseal, memory: 700MiB}
keys: {root: "file:/srv/root.key"}
nfs: {listen: ["192.0.2.1:2049", "192.0.2.2:2049"], lease: 30s, delegations: false}
tls: {certificates: [{certificate: /a.pem, key: /a.key}]}
`)
	c, err := parse([]string{"-config", file}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	o := c.options
	if o.DataDir != "/srv/nfseal" || o.MemoryBytes != 700<<20 || o.Root.Where != "/srv/root.key" || o.LeaseSeconds != 30 || !o.NoDelegations ||
		!slices.Equal(o.Listen, []string{"192.0.2.1:2049", "192.0.2.2:2049"}) || len(o.CertFiles) != 1 || o.CertFiles[0].Key != "/a.key" {
		t.Errorf("%+v", o)
	}
	c, err = parse([]string{"-config", file, "-listen", ":1", "-key-file", "/other.key", "-lease", "5", "-tls-key", "/b.key", "-tls-cert", "/b.pem"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	o = c.options
	if !slices.Equal(o.Listen, []string{":1"}) || o.Root.Where != "/other.key" || o.LeaseSeconds != 5 || o.MemoryBytes != 700<<20 ||
		len(o.CertFiles) != 1 || o.CertFiles[0].Cert != "/b.pem" {
		t.Errorf("overridden: %+v", o)
	}
}

// TestConfigFileExample: what the reference shows for each key is taken by the flag that it stands for.
func TestConfigFileExample(t *testing.T) {
	c, err := parse([]string{"-config", configFile(t, configfile.Example()), "-volume-size", "1GiB"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.options.Network.Addresses) != 1 || c.options.Network.Addresses[0].MTU != 9000 {
		t.Errorf("%+v", c.options.Network.Addresses)
	}
	want := []oidc.Provider{{Issuer: "https://issuer.example.com/cluster", Audiences: []string{"sts.amazonaws.com"}, File: "/etc/nfseal/jwks.json"}}
	if !reflect.DeepEqual(c.options.Identities, want) {
		t.Errorf("%+v", c.options.Identities)
	}
	if !reflect.DeepEqual(c.options.Root.PCRs, []uint{7, 11}) {
		t.Errorf("%v", c.options.Root.PCRs)
	}
}

func TestConfigFileRefused(t *testing.T) {
	for text, want := range map[string]string{
		"nfs:\n  lease: 7\n":                 ":2:10: nfs.lease: ",
		"keys:\n  root: \"vault:nowhere\"\n": ":2:9: keys.root: ",
		"api: {identity-providers: [{issuer: \"https://a.example/${x}\", audiences: [a, b], keys: /jwks}]}": ":1:29: api.identity-providers: ",
		"network:\n  gate-open: [tcp/99999]\n":                      ":2:15: network.gate-open: ",
		"storage:\n  volume-size: 1KiB\n":                           "volume of 1024 bytes",
		"storage: {volume-size: 1GiB, volume-device: /dev/nothing}": "not both",
	} {
		_, err := parse([]string{"-config", configFile(t, text)}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %s", text, err, want)
		}
	}
	if _, err := parse([]string{"-config", "/nowhere/config.yaml"}, io.Discard); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("%v", err)
	}
}

// forCommands are flags that say what is to be done once, or that the image alone has: they have no place in a file.
var forCommands = []string{
	"check", "config", "failure-file", "fsck", "key-file", "move-root", "recovery-file", "remove-network", "repair", "takeover", "upgrade-dir", "upgrade-state", "version",
}

// TestEveryFlagIsInTheFile: a setting that only the command line knew could not be set in the image.
func TestEveryFlagIsInTheFile(t *testing.T) {
	var text bytes.Buffer
	if _, err := parse([]string{"-help"}, &text); err == nil {
		t.Fatal("no help")
	}
	var known []string
	var collect func(keys []configfile.Key)
	collect = func(keys []configfile.Key) {
		for _, k := range keys {
			known = append(known, k.Flag)
			collect(k.Keys)
		}
	}
	collect(configfile.Keys)
	for _, m := range regexp.MustCompile(`(?m)^  -([a-z0-9-]+)`).FindAllStringSubmatch(text.String(), -1) {
		if slices.Contains(known, m[1]) == slices.Contains(forCommands, m[1]) {
			t.Errorf("-%s: in the file %v, left to the command line %v", m[1], slices.Contains(known, m[1]), slices.Contains(forCommands, m[1]))
		}
	}
}
