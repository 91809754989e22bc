package main

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/ktls"
)

func TestParseSpec(t *testing.T) {
	for text, want := range map[string]struct{ host, path, name string }{
		"fs-0a1:/":                         {"fs-0a1", "/", "fs-0a1.efs.r.s"},
		"fs-0a1:/a/b c":                    {"fs-0a1", "/a/b c", "fs-0a1.efs.r.s"},
		"fs-0a1":                           {"fs-0a1", "/", "fs-0a1.efs.r.s"},
		"fs-0a1:":                          {"fs-0a1", "/", "fs-0a1.efs.r.s"},
		"fs-0a1.efs.local-1.Example.org:/": {"fs-0a1.efs.local-1.Example.org", "/", "fs-0a1.efs.local-1.example.org"},
		"nas.:/x":                          {"nas.", "/x", "nas"},
		"10.0.0.1:/x":                      {"10.0.0.1", "/x", "10.0.0.1"},
		"[fd00::1]:/x":                     {"fd00::1", "/x", "fd00::1"},
		"nas:/x:/y":                        {"nas", "/x:/y", "nas"},
	} {
		s, err := parseSpec(text)
		if err != nil || s.host != want.host || s.path != want.path || s.serverName("r", "s") != want.name {
			t.Errorf("%q: %+v, %q, %v", text, s, s.serverName("r", "s"), err)
		}
	}
	for _, text := range []string{"", ":", ":/", "/dev/sda1", "a b:/", "-o:/", "fs-0a1;reboot:/", "a..b:/", "nas:/a\nb",
		strings.Repeat("a.", 200) + ":/", "nas:/" + strings.Repeat("a", 5000)} {
		if s, err := parseSpec(text); err == nil {
			t.Errorf("%q became %+v", text, s)
		}
	}
}

func TestParseOptions(t *testing.T) {
	conf := config{cafile: "/conf.pem", region: "conf-1", suffix: "conf.example", ktls: ktls.UseOff}
	for text, want := range map[string]func(options) bool{
		"": func(o options) bool {
			return o.tls && o.ocsp && o.port == 2049 && o.cafile == "/conf.pem" && o.flags == 0
		},
		"tls,_netdev,rw":      func(o options) bool { return o.tls && o.flags == 0 && o.nfs == nil },
		"notls":               func(o options) bool { return !o.tls },
		"notls,tls,noocsp":    func(o options) bool { return o.tls && !o.ocsp },
		"ro,noatime":          func(o options) bool { return o.flags == unix.MS_RDONLY|unix.MS_NOATIME },
		"ro,rw,nosuid,nodev":  func(o options) bool { return o.flags == unix.MS_NOSUID|unix.MS_NODEV },
		"cafile=/a,region=b":  func(o options) bool { return o.cafile == "/a" && o.region == "b" && o.suffix == "conf.example" },
		"suffix=x.y,port=99":  func(o options) bool { return o.suffix == "x.y" && o.port == 99 },
		"dns_name_suffix=x":   func(o options) bool { return o.suffix == "x" },
		"mounttargetip=::1":   func(o options) bool { return o.address == "::1" },
		"tlsport=20100":       func(o options) bool { return o.tlsPort == 20100 },
		"az=zone-a,verify=2":  func(o options) bool { return o.az == "zone-a" },
		"servername=nas.x":    func(o options) bool { return o.serverName == "nas.x" },
		"soft,timeo=5":        func(o options) bool { return slices.Equal(o.nfs, []string{"soft", "timeo=5"}) },
		"minorversion=0":      func(o options) bool { return slices.Equal(o.nfs, []string{"vers=4.0"}) },
		"vers=4.0":            func(o options) bool { return slices.Equal(o.nfs, []string{"vers=4.0"}) },
		"nfsvers=4.2":         func(o options) bool { return slices.Equal(o.nfs, []string{"vers=4.2"}) },
		"x-systemd.automount": func(o options) bool { return o.nfs == nil },
		"comment=a b":         func(o options) bool { return o.nfs == nil },
		",,ro,":               func(o options) bool { return o.flags == unix.MS_RDONLY },
		"hard":                func(o options) bool { return o.ktls == ktls.UseOff },
		"ktls=on":             func(o options) bool { return o.ktls == ktls.UseOn },
	} {
		if o, err := parseOptions([]string{text}, conf, false); err != nil || !want(o) {
			t.Errorf("%q: %+v, %v", text, o, err)
		}
	}
	if o, err := parseOptions(nil, config{}, false); err != nil || o.ktls != ktls.UseAuto {
		t.Errorf("nothing said: %+v, %v", o, err)
	}
	for text, word := range map[string]string{
		"bogus": "not known", "iam=1": "takes no value", "tls=1": "takes no value", "hard=1": "takes no value", "ro=1": "not known",
		"cafile": "needs a value", "cafile=": "needs a value", "port=0": "not a number", "port=x": "not a number",
		"port=65536": "not a number", "rsize=big": "needs a number", "rsize=-1": "needs a number", "nfsvers=3": "can't be used", "minorversion=3": "can't be used",
		"sec=krb5": "can't be used", "proto=udp": "can't be used", "remount": "can't be used", "mounttargetip=nas": "not an IP address",
		"region=a.b": "not one label", "suffix=a b": "not a DNS name", "servername=a/b": "neither", "notls,noocsp": "make no sense",
		"verify=0": "always verified", "verify=x": "not known", "az=a.b": "not one label", "tlsport=0": "not a number",
		"stunnel": "leave the option out", "az=a,mounttargetip=1.2.3.4": "exclude each other", "notls,tlsport=1": "make no sense",
		"ktls": "needs a value", "ktls=yes": "auto, on and off are", "addr=1.2.3.4": "not known", "clientaddr=1.2.3.4": "not known",
	} {
		if _, err := parseOptions([]string{text}, config{}, false); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v, want %q in it", text, err, word)
		}
	}
	if _, err := parseOptions([]string{"bogus,ro"}, config{}, true); err != nil {
		t.Errorf("sloppy: %v", err)
	}
	if o, err := parseOptions([]string{"ro", "nosuid"}, config{}, false); err != nil || o.flags != unix.MS_RDONLY|unix.MS_NOSUID ||
		o.region != defaultRegion || o.suffix != defaultSuffix {
		t.Errorf("two lists: %+v, %v", o, err)
	}
}

func TestMountData(t *testing.T) {
	o, err := parseOptions([]string{"soft,rsize=65536,nconnect=4,proto=tcp"}, config{}, false)
	if err != nil {
		t.Fatal(err)
	}
	const want = "vers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport,proto=tcp,sec=sys," +
		"soft,rsize=65536,nconnect=4,port=20049,addr=127.0.0.1,clientaddr=127.0.0.1"
	if got := o.data(netip.MustParseAddr("127.0.0.1"), 20049); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := o.data(netip.MustParseAddr("fd00::1"), 2049); !strings.Contains(got, "proto=tcp6") || strings.Contains(got, "proto=tcp,") ||
		!strings.HasSuffix(got, ",port=2049,addr=fd00::1,clientaddr=::") {
		t.Errorf("over IPv6: %s", got)
	}
}

func TestParseArgs(t *testing.T) {
	same := func(a, b command) bool {
		return a.spec == b.spec && a.dir == b.dir && slices.Equal(a.lists, b.lists) &&
			a.fake == b.fake && a.sloppy == b.sloppy && a.verbose == b.verbose && a.help == b.help
	}
	for text, want := range map[string]command{
		"a b":               {spec: "a", dir: "b"},
		"a b -o ro,tls":     {spec: "a", dir: "b", lists: []string{"ro,tls"}},
		"a b -v -o ro -ofs": {spec: "a", dir: "b", lists: []string{"ro", "fs"}, verbose: true},
		"-sfn a b":          {spec: "a", dir: "b", sloppy: true, fake: true},
		"-o ro a b":         {spec: "a", dir: "b", lists: []string{"ro"}},
		"-vo ro a b":        {spec: "a", dir: "b", lists: []string{"ro"}, verbose: true},
		"-h":                {help: true},
		"--help":            {help: true},
	} {
		if c, err := parseArgs(strings.Fields(text)); err != nil || !same(c, want) {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
	for _, text := range []string{"", "a", "a b c", "a b -o", "a b -x", "a b -N 5"} {
		if c, err := parseArgs(strings.Fields(text)); err == nil {
			t.Errorf("%q: %+v", text, c)
		}
	}
}

func TestConfig(t *testing.T) {
	got, err := parseConfig("# nfseal\n\n cafile = /etc/ca.pem \nregion=r-1\r\ndns_name_suffix = x.example\nktls = off\n")
	if want := (config{"/etc/ca.pem", "r-1", "x.example", ktls.UseOff}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"cafile", "cafile =", "colour = red", "= x"} {
		if _, err := parseConfig(text); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", text, err)
		}
	}
	dir := t.TempDir()
	if c, err := readConfig(filepath.Join(dir, "none")); err != nil || c != (config{}) {
		t.Errorf("a missing file: %+v, %v", c, err)
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, maxConfigBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readConfig(big); err == nil {
		t.Error("read an oversized file")
	}
}

func TestErrnoTexts(t *testing.T) {
	for _, errno := range slices.Sorted(maps.Keys(errnoText)) {
		err := explainMount("fs-1:/", "/mnt", errno)
		if !strings.Contains(err.Error(), errnoText[errno]) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%d: %v", errno, err)
		}
	}
	if err := explainMount("fs-1:/", "/mnt", unix.ENOSPC); !strings.Contains(err.Error(), "no space left") {
		t.Errorf("an errno without words: %v", err)
	}
}

func FuzzParseOptions(f *testing.F) {
	for _, seed := range []string{"", "tls,ro,rsize=4096", "nfsvers=4.1,port=1", "cafile==,,=", "x-a=b,sec=sys"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseOptions([]string{text}, config{}, false)
		if err != nil {
			return
		}
		// Nothing that the user says may add words of its own to what the kernel is told.
		data := o.data(netip.MustParseAddr("127.0.0.1"), 20049)
		if strings.Count(data, "addr=") != 2 || strings.Count(data, "port=") != 1+strings.Count(data, "resvport=") {
			t.Fatalf("%q became %q", text, data)
		}
	})
}

func FuzzParseSpec(f *testing.F) {
	for _, seed := range []string{"fs-0:/", "[::1]:/a", "a.b:/c:/d", ":/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSpec(text)
		if err == nil && (s.host == "" || s.path[0] != '/' || strings.Contains(s.serverName("r", "s"), "/")) {
			t.Fatalf("%q became %+v", text, s)
		}
	})
}
