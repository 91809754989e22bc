package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/ktls"
)

// options are what -o and the configuration say.
type options struct {
	tls, ocsp   bool
	cafile      string
	region      string
	suffix      string
	address     string // mounttargetip
	serverName  string
	iam         bool
	profile     string // awsprofile
	accessPoint string
	az          string // before the file system's name in DNS, not in the certificate
	port        int
	tlsPort     int      // of the tunnel; 0 for any
	ktls        ktls.Use // who carries the tunnel's sessions
	flags       uintptr  // of mount(2)
	nfs         []string // for the kernel's NFS client, in its words
}

// vfsFlags are options that mount(2) takes as flags: set, or cleared.
var vfsFlags = map[string]struct {
	flag  uintptr
	clear bool
}{
	"ro": {unix.MS_RDONLY, false}, "rw": {unix.MS_RDONLY, true},
	"nosuid": {unix.MS_NOSUID, false}, "suid": {unix.MS_NOSUID, true},
	"nodev": {unix.MS_NODEV, false}, "dev": {unix.MS_NODEV, true},
	"noexec": {unix.MS_NOEXEC, false}, "exec": {unix.MS_NOEXEC, true},
	"sync": {unix.MS_SYNCHRONOUS, false}, "async": {unix.MS_SYNCHRONOUS, true},
	"dirsync": {unix.MS_DIRSYNC, false},
	"noatime": {unix.MS_NOATIME, false}, "atime": {unix.MS_NOATIME, true},
	"nodiratime": {unix.MS_NODIRATIME, false}, "diratime": {unix.MS_NODIRATIME, true},
	"relatime": {unix.MS_RELATIME, false}, "norelatime": {unix.MS_RELATIME, true},
	"strictatime": {unix.MS_STRICTATIME, false}, "nostrictatime": {unix.MS_STRICTATIME, true},
}

// ignored are for mount(8), systemd and fstab, not for us.
var ignored = []string{
	"defaults", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup",
	"_netdev", "nofail", "_rnetdev", "intr", "nointr", "fg", "mand", "nomand",
}

// kernelWords are options of the kernel's NFS client that have no value.
var kernelWords = []string{
	"hard", "soft", "softerr", "softreval", "nosoftreval", "cto", "nocto", "ac", "noac", "sharecache", "nosharecache",
	"resvport", "noresvport", "rdirplus", "nordirplus", "fsc", "nofsc", "migration", "nomigration",
}

// kernelNumbers are those whose value is a number.
var kernelNumbers = []string{
	"rsize", "wsize", "timeo", "retrans", "acregmin", "acregmax", "acdirmin", "acdirmax", "actimeo", "nconnect", "max_connect",
}

// kernelValues are those with a few values that make sense here.
var kernelValues = map[string][]string{
	"lookupcache":  {"all", "none", "pos", "positive"},
	"local_lock":   {"all", "none", "flock", "posix"},
	"sec":          {"sys"},
	"proto":        {"tcp"},
	"nfsvers":      {"4.0", "4.1", "4.2"},
	"vers":         {"4.0", "4.1", "4.2"},
	"minorversion": {"0", "1", "2"},
}

// parseOptions reads all -o lists over what the configuration says. sloppy (mount -s) lets unknown
// options pass.
func parseOptions(lists []string, c config, sloppy bool) (options, error) {
	o := options{tls: true, ocsp: true, cafile: c.cafile, region: c.region, suffix: c.suffix, ktls: c.ktls, port: nfsPort}
	if o.region == "" {
		o.region = defaultRegion
	}
	if o.suffix == "" {
		o.suffix = defaultSuffix
	}
	for word := range strings.SplitSeq(strings.Join(lists, ","), ",") {
		if word == "" {
			continue
		}
		key, value, hasValue := strings.Cut(word, "=")
		known, err := o.set(key, value, hasValue)
		if err != nil {
			return options{}, err
		}
		if !known && !sloppy {
			return options{}, fmt.Errorf("option %q is not known to mount.nfseal", word)
		}
	}
	return o, o.check()
}

func (o *options) check() error {
	if !dnsLabel.MatchString(o.region) {
		return fmt.Errorf("region %q is not one label of a DNS name", o.region)
	}
	if !dnsName.MatchString(o.suffix) {
		return fmt.Errorf("DNS suffix %q is not a DNS name", o.suffix)
	}
	kernelTLS := ktls.Options{Use: o.ktls}
	kernelTLS.EnsureDefaults()
	if err := kernelTLS.Validate(); err != nil {
		return fmt.Errorf("ktls=%s is not known; auto, on and off are", o.ktls)
	}
	o.ktls = kernelTLS.Use
	if !o.tls && (!o.ocsp || o.serverName != "" || o.tlsPort != 0) {
		return errors.New("options noocsp, servername= and tlsport= make no sense with notls")
	}
	if o.az != "" && o.address != "" {
		return errors.New("options az= and mounttargetip= exclude each other: both say where to connect")
	}
	switch {
	case !o.tls && (o.iam || o.accessPoint != ""):
		return errors.New("options iam and accesspoint= need tls")
	case !o.iam && o.profile != "":
		return errors.New("option awsprofile= needs iam")
	}
	return nil
}

// set takes one option in. It says whether there is such an option.
func (o *options) set(key, value string, hasValue bool) (bool, error) {
	if known, err := o.setOwn(key, value, hasValue); known || err != nil {
		return known, err
	}
	if slices.Contains(ignored, key) || strings.HasPrefix(key, "x-") || strings.HasPrefix(key, "X-") || key == "comment" {
		return true, nil
	}
	if f, ok := vfsFlags[key]; ok && !hasValue {
		o.flags |= f.flag
		if f.clear {
			o.flags &^= f.flag
		}
		return true, nil
	}
	return o.setKernel(key, value, hasValue)
}

// setOwn takes in the options that are mount.nfseal's own.
func (o *options) setOwn(key, value string, hasValue bool) (bool, error) {
	switches := map[string]struct {
		field *bool
		value bool
	}{"tls": {&o.tls, true}, "notls": {&o.tls, false}, "ocsp": {&o.ocsp, true}, "noocsp": {&o.ocsp, false},
		"iam": {&o.iam, true}}
	if s, ok := switches[key]; ok {
		*s.field = s.value
		return true, noValue(key, hasValue)
	}
	texts := map[string]*string{
		"cafile": &o.cafile, "region": &o.region, "suffix": &o.suffix, "dns_name_suffix": &o.suffix,
		"mounttargetip": &o.address, "servername": &o.serverName,
		"awsprofile": &o.profile, "accesspoint": &o.accessPoint, "az": &o.az, "ktls": (*string)(&o.ktls),
	}
	if field, ok := texts[key]; ok {
		if value == "" {
			return true, fmt.Errorf("option %s needs a value", key)
		}
		*field = value
		return true, o.checkText(key, value)
	}
	ports := map[string]*int{"port": &o.port, "tlsport": &o.tlsPort}
	if field, ok := ports[key]; ok {
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n == 0 {
			return true, fmt.Errorf("%s %q is not a number from 1 to 65535", key, value)
		}
		*field = int(n)
		return true, nil
	}
	if key == "verify" {
		return true, checkVerify(value)
	}
	if why, ok := refused[key]; ok {
		return true, fmt.Errorf("option %s can't be used with nfseal: %s", key, why)
	}
	return false, nil
}

// refused are options that other helpers and other file systems have, with what to do instead.
var refused = map[string]string{
	"remount":      "unmount and mount again",
	"bind":         "use mount --bind on the mounted directory",
	"rbind":        "use mount --rbind on the mounted directory",
	"move":         "use mount --move on the mounted directory",
	"bg":           "use _netdev,nofail in /etc/fstab, or x-systemd.automount",
	"stunnel":      "its own tunnel is used, leave the option out",
	"efs-proxy":    "its own tunnel is used, leave the option out",
	"capath":       "give one file with cafile=",
	"netns":        "mount from within the network namespace",
	"awscredsuri":  "put the access key into /root/.aws/credentials",
	"jwtpath":      "put the access key into /root/.aws/credentials",
	"rolearn":      "put the access key into /root/.aws/credentials",
	"crossaccount": "there is one account; name the file system by its id",
	"fips":         "TLS is limited to AES-256-GCM anyway, leave the option out",
}

// checkVerify takes stunnel's levels of verification that say what is done here anyway.
func checkVerify(value string) error {
	switch value {
	case "2":
		return nil
	case "0", "1":
		return fmt.Errorf("verify=%s would take any server for the right one: the server's certificate is always verified", value)
	}
	return fmt.Errorf("verify=%s is not known; the server's certificate is always verified, as by verify=2", value)
}

func (o *options) checkText(key, value string) error {
	switch key {
	case "accesspoint":
		if !accessPointID.MatchString(value) {
			return fmt.Errorf("accesspoint %q is not fsap- and 17 hexadecimal digits", value)
		}
	case "az":
		if !dnsLabel.MatchString(value) {
			return fmt.Errorf("az %q is not one label of a DNS name", value)
		}
	case "mounttargetip":
		if _, err := netip.ParseAddr(value); err != nil {
			return fmt.Errorf("mounttargetip %q is not an IP address", value)
		}
	case "servername":
		if _, err := netip.ParseAddr(value); err != nil && !dnsName.MatchString(value) {
			return fmt.Errorf("servername %q is neither a DNS name nor an IP address", value)
		}
	}
	return nil
}

// setKernel takes in the options that the kernel's NFS client understands.
func (o *options) setKernel(key, value string, hasValue bool) (bool, error) {
	values, enumerated := kernelValues[key]
	switch {
	case slices.Contains(kernelWords, key):
		if err := noValue(key, hasValue); err != nil {
			return true, err
		}
		o.nfs = append(o.nfs, key)
	case slices.Contains(kernelNumbers, key):
		if _, err := strconv.ParseUint(value, 10, 31); err != nil {
			return true, fmt.Errorf("option %s needs a number", key)
		}
		o.nfs = append(o.nfs, key+"="+value)
	case enumerated:
		if !slices.Contains(values, value) {
			return true, fmt.Errorf("option %s=%s can't be used with nfseal; these can: %s", key, value, strings.Join(values, ", "))
		}
		switch key {
		case "nfsvers":
			key = "vers"
		case "minorversion":
			key, value = "vers", "4."+value
		}
		o.nfs = append(o.nfs, key+"="+value)
	default:
		return false, nil
	}
	return true, nil
}

func noValue(key string, hasValue bool) error {
	if hasValue {
		return fmt.Errorf("option %s takes no value", key)
	}
	return nil
}

// data is the last argument of mount(2) for the NFS server at address and port. What the user said
// comes after the defaults, and so wins.
func (o *options) data(address netip.Addr, port int) string {
	client := "127.0.0.1"
	if !address.IsLoopback() {
		client = "0.0.0.0" // nobody connects to it: NFSv4.1 calls over the mount's own connection, 4.0 not at all
		if address.Is6() {
			client = "::"
		}
	}
	words := []string{
		"vers=4.1", "rsize=1048576", "wsize=1048576", "hard", "timeo=600", "retrans=2", "noresvport", "proto=tcp", "sec=sys",
	}
	if address.Is6() {
		words[7] = "proto=tcp6"
	}
	words = append(words, slices.DeleteFunc(slices.Clone(o.nfs), func(w string) bool { return w == "proto=tcp" })...)
	words = append(words, "port="+strconv.Itoa(port), "addr="+address.String(), "clientaddr="+client)
	return strings.Join(words, ",")
}
