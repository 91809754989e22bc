package appliance

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/audit/forward"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/certfile"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/network"
	"github.com/nfseal/nfseal/appliance/oidc"
	"github.com/nfseal/nfseal/appliance/pki"
	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/proxy/ktls"
	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/xtsengine/filestore"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Options are the settings of an appliance.
type Options struct {
	// DataDir is where everything is kept. It is made if it does not exist.
	DataDir string
	// Root is the root of trust; the key file root.key in the data directory by default. A key file is
	// made only with a new data directory.
	Root trust.Options
	// Version is what the program calls itself.
	Version string
	// Host names this machine in the audit log; the system's host name by default.
	Host string
	// Region and Suffix make DNS names: fs-….efs.<Region>.<Suffix>.
	Region string
	Suffix string
	// Listen are the addresses, host:port, on which NFS is served; ":2049" by default.
	Listen []string
	// OCSPListen is the address, host:port, of the OCSP responder; ":2050" by default.
	OCSPListen string
	// OCSPHost is what clients call that address, host or host:port; the first of Advertise by
	// default.
	OCSPHost string
	// APIListen is the address, host:port, of the front door, where signed calls of the EFS API are
	// answered over HTTPS; "127.0.0.1:2051" by default, and "off" has none.
	APIListen string
	// Advertise are the addresses or names of this machine as clients know it; by default those of
	// Listen, or those of all interfaces.
	Advertise []string
	// MountTargets say which file system answers at which local address, for clients that name
	// none.
	MountTargets map[netip.Addr]string
	// Network says which mount target addresses are kept on which interfaces, and how connections to
	// them arrive. Its Name and Log are set here.
	Network network.EdgeOptions
	// Takeover takes the steered sockets over from the daemon that has the data directory, and waits
	// until that has drained and gone; if there is none, it is an ordinary start.
	Takeover bool
	// ServiceManager is what the environment says about the one that started the daemon.
	ServiceManager ServiceManager
	// VolumeBytes is the size of the volume of a new data directory; 0 chooses: 10 GiB, or half of
	// what is free if that is less.
	VolumeBytes int64
	// VolumeDevice is the path of a block device, which has to be empty, that becomes the volume of a new data directory.
	VolumeDevice string
	// MemoryBytes is the memory that the daemon keeps to, whatever the number of file systems, 16 MiB at
	// least (of less than 512 MiB, the buffers of the network come on top); by default 1 GiB, or a quarter
	// of the machine's memory or the control group's if that is less.
	MemoryBytes int64
	// Squash says whose requests are made anonymous: "none" (as EFS), "root" or "all".
	Squash string
	// IDDomain is the domain of owners that clients send as NUMBER@domain (RFC 8881 §5.9), beside numbers alone; none by default.
	IDDomain string
	// OnlyTLS12 leaves TLS 1.3 out.
	OnlyTLS12 bool
	// CertFiles are certificates of another CA for NFS, in place of the internal CA's; none by default.
	CertFiles []certfile.Pair
	// KTLS says whether the kernel carries TLS sessions: "auto" (if it can, by default), "on" (or nothing
	// starts) or "off".
	KTLS ktls.Use
	// ClientCAFile is a PEM file with the CAs that clients' certificates must come from; "" takes any
	// certificate, and none.
	ClientCAFile string
	// Identities are the identity providers whose tokens assume roles; none by default.
	Identities []oidc.Provider
	// AllowPlaintext serves clients without TLS too.
	AllowPlaintext bool
	// LeaseSeconds and GraceSeconds of NFS; 0 takes the defaults of package nfs4.
	LeaseSeconds int
	GraceSeconds int
	// NoDelegations keeps NFS clients from caching files in a way that must be recalled.
	NoDelegations bool
	// IdlePoll keeps the processors of a virtual machine from being halted while clients wait for each answer in
	// turn: see package cpuidle.
	IdlePoll bool
	// KeyCheckSeconds is how often it is looked whether the keys of file systems can still be used, 1 to 60,
	// beside at once when a key changes; 10 by default.
	KeyCheckSeconds int
	// Upgrades is where bundles with another version of the image go; nowhere by default.
	Upgrades UpgradeOptions
	// AuditTo says where the records of the audit log are forwarded to; nowhere by default.
	AuditTo forward.Targets
	// ownAddresses and ownOCSPHost say that Advertise and OCSPHost are the defaults, which follow the machine's
	// addresses while it runs.
	ownAddresses, ownOCSPHost bool
	// Configurations keeps the configuration file; nil where there is none.
	Configurations api.Configurations
	// Log is where the appliance logs; nowhere by default.
	Log *zap.Logger
	// Clock is time.Now by default.
	Clock func() time.Time
}

// ServiceManager keeps the steered sockets open while no daemon runs, if it can: systemd with
// FileDescriptorStoreMax. Empty without one.
type ServiceManager struct {
	NotifySocket                        string // NOTIFY_SOCKET
	ListenPID, ListenFDs, ListenFDNames string // LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES
}

// Defaults that a command line shows.
const (
	DefaultDataDir    = "/var/lib/nfseal"
	DefaultRegion     = "local-1"
	DefaultSuffix     = "nfseal.internal"
	DefaultListen     = ":2049"
	DefaultOCSPListen = ":2050"
	DefaultAPIListen  = "127.0.0.1:2051"
	DefaultSquash     = "none"
)

// EnsureDefaults fills in what was left zero.
func (o *Options) EnsureDefaults() {
	setDefault(&o.DataDir, DefaultDataDir)
	if dir, err := filepath.Abs(o.DataDir); err == nil {
		o.DataDir = dir
	}
	if o.Root.Kind == "" {
		o.Root.Kind, o.Root.Where = trust.KeyFile, layout{o.DataDir}.rootKey()
	}
	o.Root.EnsureDefaults()
	setDefault(&o.Version, "unknown")
	setDefault(&o.Region, DefaultRegion)
	setDefault(&o.Suffix, DefaultSuffix)
	setDefault(&o.OCSPListen, DefaultOCSPListen)
	setDefault(&o.APIListen, DefaultAPIListen)
	setDefault(&o.Squash, DefaultSquash)
	setDefault(&o.MemoryBytes, defaultMemory())
	setDefault(&o.KeyCheckSeconds, defaultKeyCheckSeconds)
	setDefault(&o.KTLS, ktls.UseAuto)
	if o.Host == "" {
		o.Host, _ = os.Hostname()
	}
	if len(o.Listen) == 0 {
		o.Listen = []string{DefaultListen}
	}
	if len(o.Advertise) == 0 {
		o.Advertise, o.ownAddresses = reachableHosts(o.Listen), true
	}
	if o.OCSPHost == "" {
		o.OCSPHost, o.ownOCSPHost = o.Advertise[0], true
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.ensureNetwork()
	if o.Clock == nil {
		o.Clock = time.Now
	}
}

// ensureNetwork names what is pinned after the data directory, and has a worker for each processor.
func (o *Options) ensureNetwork() {
	id := sha256.Sum256([]byte(o.DataDir))
	o.Network.Name = hex.EncodeToString(id[:6])
	o.Network.Log = o.Log.With(zap.String("component", "network"))
	setDefault(&o.Network.Workers, min(runtime.GOMAXPROCS(0), maxWorkers))
	o.Network.EnsureDefaults()
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

// Validate says what is wrong, after EnsureDefaults.
func (o *Options) Validate() error {
	if !filepath.IsAbs(o.DataDir) {
		return fmt.Errorf("appliance: data directory %q is no path", o.DataDir)
	}
	addresses := append(slices.Clone(o.Listen), o.OCSPListen)
	if o.APIListen != noFront {
		addresses = append(addresses, o.APIListen)
	}
	for _, address := range addresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("appliance: address %q is not host:port: %w", address, err)
		}
	}
	if _, err := parseSquash(o.Squash); err != nil {
		return err
	}
	if strings.ContainsAny(o.IDDomain, "@ \t\n") {
		return fmt.Errorf("appliance: domain of owners %q is no domain", o.IDDomain)
	}
	if err := (&ktls.Options{Use: o.KTLS}).Validate(); err != nil {
		return err
	}
	if err := o.Root.Validate(); err != nil {
		return err
	}
	if err := o.validateNames(); err != nil {
		return err
	}
	if err := o.Network.Validate(); err != nil {
		return err
	}
	if err := o.AuditTo.Validate(); err != nil {
		return err
	}
	if err := oidc.Validate(o.Identities); err != nil {
		return err
	}
	if o.CertFiles != nil {
		c := o.certFileOptions()
		c.EnsureDefaults()
		if err := c.Validate(); err != nil {
			return err
		}
	}
	for address, id := range o.MountTargets {
		if !address.IsValid() || !catalog.ValidID(id) {
			return fmt.Errorf("appliance: mount target %s=%s is not an address and a file system id", address, id)
		}
	}
	switch {
	case o.VolumeBytes != 0 && o.VolumeDevice != "":
		return errors.New("appliance: the volume is in a file of a given size or on a device, not both")
	case o.VolumeBytes != 0 && (o.VolumeBytes < minVolumeBytes || o.VolumeBytes%volumeUnit != 0):
		return fmt.Errorf("appliance: volume of %d bytes: at least %d are needed, in multiples of %d",
			o.VolumeBytes, int64(minVolumeBytes), int64(volumeUnit))
	case o.KeyCheckSeconds < 1 || o.KeyCheckSeconds > maxKeyCheckSeconds:
		return fmt.Errorf("appliance: keys are checked every 1 to %d seconds, not %d", maxKeyCheckSeconds, o.KeyCheckSeconds)
	case o.MemoryBytes < minMemoryBytes:
		return fmt.Errorf("appliance: memory of %d bytes: at least %d are needed", o.MemoryBytes, int64(minMemoryBytes))
	}
	return nil
}

// validateNames has the certificate authority say now what it would say after the data directory was
// made.
func (o *Options) validateNames() error {
	p := pki.Options{Dir: o.DataDir, Sealer: (*kms.Service)(nil), Region: o.Region, Suffix: o.Suffix, OCSPURL: o.OCSPURL()}
	p.EnsureDefaults()
	return p.Validate()
}

// volumeUnit is what the size of a volume is a multiple of.
const volumeUnit = 1 << 20

func parseSquash(s string) (nfs4.SquashMode, error) {
	switch s {
	case "none":
		return nfs4.SquashNone, nil
	case "root":
		return nfs4.SquashRoot, nil
	case "all":
		return nfs4.SquashAll, nil
	}
	return 0, errors.New(`appliance: squash must be "none", "root" or "all"`)
}

// OCSPURL is the address of the responder that goes into certificates.
func (o *Options) OCSPURL() string { return o.ocspURL(o.OCSPHost) }

// ocspURL is that of a responder that clients reach at host, or host:port.
func (o *Options) ocspURL(host string) string {
	if _, _, err := net.SplitHostPort(host); err != nil {
		_, port, _ := net.SplitHostPort(o.OCSPListen)
		host = net.JoinHostPort(host, port)
	}
	return "http://" + host + ocspPath
}

const ocspPath = "/ocsp"

// DNSName is the name under which clients mount the file system id.
func (o *Options) DNSName(id string) string { return id + ".efs." + o.Region + "." + o.Suffix }

// MemoryLimit is the soft limit for the Go runtime that fits MemoryBytes, of which a part is outside its
// heap.
func (o *Options) MemoryLimit() int64 { return max(filestore.HeapBytes(o.MemoryBytes), minHeapBytes) }

// reachableHosts are the hosts of the listening addresses; where one is every address, those of the
// machine that are not loopback, the loopback one if there is no other.
func reachableHosts(listen []string) []string {
	var hosts []string
	for _, address := range listen {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			continue
		}
		if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
			hosts = append(hosts, interfaceAddresses()...)
			continue
		}
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	if hosts = slices.Compact(hosts); len(hosts) == 0 {
		return []string{"127.0.0.1"}
	}
	return hosts
}

func interfaceAddresses() []string {
	var hosts []string
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil || prefix.Addr().IsLoopback() || prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		hosts = append(hosts, prefix.Addr().String())
	}
	return hosts
}

// ParseBytes reads a size: a number with an optional unit K, M, G or T, with or without "iB", each
// 1024 times the one before.
func ParseBytes(s string) (int64, error) {
	digits, shift := s, 0
	for i, unit := range []string{"K", "M", "G", "T"} {
		for _, suffix := range []string{unit + "iB", unit} {
			if rest, ok := cutSuffix(digits, suffix); ok && digits == s {
				digits, shift = rest, 10*(i+1)
			}
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return 0, fmt.Errorf("%q is not a size such as 512MiB or 10G", s)
	}
	return n << shift, nil
}

func cutSuffix(s, suffix string) (string, bool) {
	if len(s) <= len(suffix) || s[len(s)-len(suffix):] != suffix {
		return s, false
	}
	return s[:len(s)-len(suffix)], true
}

// chooseVolumeBytes says how large the volume of a new data directory is to be, or in words why
// there can be none.
func chooseVolumeBytes(dir string, wanted int64) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("appliance: free space of %s: %w", dir, err)
	}
	free := int64(st.Bavail) * st.Bsize
	room := free - spareBytes
	size := wanted
	if size == 0 {
		size = min(defaultVolumeBytes, free/defaultVolumeShare/volumeUnit*volumeUnit)
	}
	if size > room || size < minVolumeBytes {
		return 0, fmt.Errorf("there is too little space in %s: %s are free, a volume of %s and %s beside it are needed",
			dir, formatBytes(free), formatBytes(max(size, minVolumeBytes)), formatBytes(spareBytes))
	}
	return size, nil
}

// formatBytes is for people.
func formatBytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	value, unit := float64(n), 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return strconv.FormatFloat(math.Round(value*10)/10, 'f', -1, 64) + " " + units[unit]
}
