package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/nfseal/nfseal/appliance"
	"github.com/nfseal/nfseal/appliance/certfile"
	"github.com/nfseal/nfseal/appliance/oidc"
	"github.com/nfseal/nfseal/appliance/trust"
)

// config is what the command line says.
type config struct {
	options     appliance.Options
	logFormat   string
	showVersion bool
	check       bool
	removeNet   bool
	fsck        bool
	repair      bool
	debug       bool
	// moveTo is the root of trust to move to; nil for none.
	moveTo *trust.Options
	// file is the configuration file; "" for none. trySeconds is how long a start after this one tries another.
	file       string
	trySeconds int
	// failureFile is where it is said why the daemon could not start or go on; "" for nowhere.
	failureFile string
	// recoveryFile is where a new recovery key is written; "" shows it.
	recoveryFile string
}

const usage = `Usage: nfseald [flags]

Serves the encrypted NFS file systems of one data directory. An empty directory is made into one:
with a key file, a volume and a certificate authority of its own.

`

func parse(args []string, stderr io.Writer) (*config, error) { return parseWith(args, "", stderr) }

// parseWith takes another file in the place of the one that -config names, unless it is "".
func parseWith(args []string, file string, stderr io.Writer) (*config, error) {
	c := &config{}
	o := &c.options
	o.Version = version
	f := flag.NewFlagSet("nfseald", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, usage)
		f.PrintDefaults()
	}
	f.StringVar(&c.file, "config", "", "configuration `file`, whose settings flags override (docs/config.md)")
	f.StringVar(&o.DataDir, "data", appliance.DefaultDataDir, "data `directory`")
	rootFlags(f, c)
	f.Func("listen", "`address` host:port for NFS, may be given more than once (default "+appliance.DefaultListen+")", list(&o.Listen))
	f.StringVar(&o.OCSPListen, "ocsp-listen", appliance.DefaultOCSPListen, "`address` host:port for the OCSP responder")
	f.StringVar(&o.OCSPHost, "ocsp-host", "", "`host` or host:port at which clients reach the OCSP responder (default the first -advertise)")
	f.StringVar(&o.APIListen, "api-listen", appliance.DefaultAPIListen, "`address` host:port at which signed calls of the EFS API are answered over HTTPS; off for none")
	f.Func("advertise", "`address` or name of this machine as clients know it, may be given more than once (default those of -listen or of all interfaces)", list(&o.Advertise))
	f.StringVar(&o.Region, "region", appliance.DefaultRegion, "`region` in DNS names and ARNs")
	f.StringVar(&o.Suffix, "suffix", appliance.DefaultSuffix, "DNS `suffix`: names are fs-….efs.<region>.<suffix>")
	f.StringVar(&o.VolumeDevice, "volume-device", "", "`path` of an empty block device that becomes the volume of a new data directory, better one below /dev/disk/by-id")
	f.Func("volume-size", "`size` of the volume of a new data directory, as 10GiB (default 10GiB, or half of the free space)", size(&o.VolumeBytes))
	f.Func("memory", "`size` of the memory to keep to, caches above all (default 1 GiB, or a quarter of the machine's if that is less)", size(&o.MemoryBytes))
	f.StringVar(&o.Squash, "squash", appliance.DefaultSquash, "whose requests are made anonymous: none, root or all")
	f.StringVar(&o.IDDomain, "id-domain", "", "`domain` of owners that clients send as NUMBER@domain, beside numbers alone (default none)")
	f.BoolVar(&o.OnlyTLS12, "tls12-only", false, "speak TLS 1.2 only, not 1.3")
	f.Func("tls-cert", "PEM `file` with a certificate for NFS of another CA than the internal one, its chain behind it; may be given more than once, each with its -tls-key", tlsFile(o, func(p *certfile.Pair) *string { return &p.Cert }))
	f.Func("tls-key", "PEM `file` with the private key of the -tls-cert before or after it, mode 0600", tlsFile(o, func(p *certfile.Pair) *string { return &p.Key }))
	f.StringVar((*string)(&o.KTLS), "ktls", "", "whether the kernel carries TLS sessions: `auto, on or off`; on refuses to start where it can't (default auto)")
	f.StringVar(&o.ClientCAFile, "client-ca", "", "PEM `file` of CAs: clients need a certificate from one of them, good by OCSP and for their address")
	f.Func("oidc-provider", "identity provider as `issuer,audience=file`: web identity tokens of the issuer, an https URL, for an audience, of which there may be several, are believed if a key of the JSON Web Key Set in the file signed them; may be given more than once", identityProviders(o))
	f.BoolVar(&o.AllowPlaintext, "allow-plaintext", false, "serve clients without TLS too: whoever reads the network reads the files")
	f.Func("mount-target", "`address=fs-id`: the file system at a local address, for clients that name none; may be given more than once", mountTargets(o))
	networkFlags(f, o)
	f.IntVar(&o.LeaseSeconds, "lease", 0, "NFS lease in `seconds` (default 15)")
	f.BoolVar(&o.NoDelegations, "no-delegations", false, "grant NFS clients no delegations")
	f.BoolVar(&o.IdlePoll, "idle-poll", true, "in a virtual machine whose kernel can, keep idle processors from being halted while clients wait for each answer in turn: faster for them, and a busy processor for the host meanwhile; -idle-poll=false leaves them alone")
	f.IntVar(&o.GraceSeconds, "grace", 0, "NFS grace period after a restart in `seconds` (default 20)")
	f.IntVar(&o.KeyCheckSeconds, "key-check", 0, "how often it is looked whether the KMS keys of file systems can be used, in `seconds`, 1 to 60, beside at once when a key changes (default 10)")
	f.StringVar(&o.Upgrades.Dir, "upgrade-dir", "", "`directory` where bundles with another version of the image are left (default: none are taken)")
	f.StringVar(&o.Upgrades.State, "upgrade-state", "", "`file` that says what became of them")
	f.StringVar(&o.AuditTo.Syslog, "audit-syslog", "", "`receiver` of syslog that the audit log is forwarded to: unix:/dev/log, udp:HOST:PORT, tcp:HOST:PORT or tls:HOST:PORT")
	f.StringVar(&o.AuditTo.SyslogCAFile, "audit-syslog-ca", "", "PEM `file` of the CAs that the certificate of -audit-syslog tls:… may come from (default those of the system)")
	f.StringVar(&o.AuditTo.File, "audit-file", "", "`file` that the audit log is forwarded to, one record a line; opened anew on SIGHUP and when it was renamed")
	processFlags(f, c)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if c.file != "" {
		if err := applyFile(f, cmp.Or(file, c.file)); err != nil {
			return nil, err
		}
	}
	if c.repair && !c.fsck {
		return nil, errors.New("-repair is for -fsck")
	}
	if c.moveTo != nil {
		kind, where := c.moveTo.Kind, c.moveTo.Where
		*c.moveTo = o.Root // with the settings of all roots
		c.moveTo.Kind, c.moveTo.Where, c.moveTo.Ask = kind, where, asker(os.Stdin, os.Stderr)
	}
	showRecovery(c)
	checked := *o
	checked.EnsureDefaults()
	return c, checked.Validate()
}

// rootFlags are those about who keeps the root key.
func rootFlags(f *flag.FlagSet, c *config) {
	o := &c.options
	f.Func("root", "root of trust as `kind:where`: file:PATH; passphrase:PATH with the passphrase in a file, - to be asked for it; tpm:/dev/tpmrm0; vault:https://HOST/MOUNT/KEY, a key of the transit engine; pkcs11:MODULE?token=LABEL&object=LABEL, a key in a token; recovery:PATH (default file:root.key in the data directory)", rootOfTrust(o))
	f.Func("tpm-pcrs", "`registers` of the TPM, as 7+11, that -root tpm:DEVICE seals a new root key to, or none with -tpm-policy-key (default 7+11, and 7 with -tpm-policy-key)", registers(o))
	f.StringVar(&o.Root.PolicyKeyFile, "tpm-policy-key", "", "PEM `file` with an RSA public key: -root tpm:DEVICE seals a new root key for all systems that its owner signs")
	f.StringVar(&o.Root.PolicySignaturesFile, "tpm-policy-signatures", "", "JSON `file` of systemd-measure with what was signed for the system that runs")
	f.Func("move-root", "`kind:where`, as -root has it: have this root of trust keep the root key, in the place of -root, wrap everything anew, and exit; no daemon may run", func(s string) error {
		to, err := trust.Parse(s)
		c.moveTo = &to
		return err
	})
	f.StringVar(&o.Root.VaultTokenFile, "vault-token-file", "", "`file` of mode 0600 with the token for -root vault:…")
	f.StringVar(&o.Root.VaultCAFile, "vault-ca", "", "PEM `file` of the CAs that the certificate of -root vault:… may come from (default those of the system)")
	f.StringVar(&o.Root.PINFile, "pkcs11-pin-file", "", "`file` of mode 0600 with the PIN of the user of the token for -root pkcs11:…")
	f.StringVar(&c.recoveryFile, "recovery-file", "", "write the recovery key of a new root key to this `file`, which must not exist, instead of showing it on the terminal")
	f.StringVar(&c.failureFile, "failure-file", "", "write why the daemon could not start or go on to this `file` too, for a console")
	f.Func("key-file", "root key `file`, as -root file:PATH; keep it on other storage than the data", func(path string) error { return rootOfTrust(o)("file:" + path) })
}

// processFlags are those about what this process does.
func processFlags(f *flag.FlagSet, c *config) {
	f.StringVar(&c.logFormat, "log", "console", "log `format`: console or json")
	f.BoolVar(&c.check, "check", false, "look at the data directory and the host, change nothing, and exit")
	f.BoolVar(&c.fsck, "fsck", false, "check all file systems of the data directory, change nothing, print what was found as JSON, and exit")
	f.BoolVar(&c.repair, "repair", false, "with -fsck: end leaks of file systems that have no other problems")
	f.BoolVar(&c.removeNet, "remove-network", false, "remove the mount target addresses and the pinned programs that former starts have left, and exit")
	f.BoolVar(&c.debug, "debug", false, "log more, such as what the kernel's verifier says about a program that it refuses")
	f.BoolVar(&c.showVersion, "version", false, "print the version and exit")
}

// rootOfTrust takes the root of trust, of which there is one.
func rootOfTrust(o *appliance.Options) func(string) error {
	return func(s string) error {
		if o.Root.Kind != "" {
			return errors.New("there is one root of trust, and two were named")
		}
		root, err := trust.Parse(s)
		o.Root.Kind, o.Root.Where, o.Root.Ask = root.Kind, root.Where, asker(os.Stdin, os.Stderr)
		return err
	}
}

// registers takes numbers with a plus between them, or the word none.
func registers(o *appliance.Options) func(string) error {
	return func(s string) error {
		o.Root.PCRs = []uint{}
		if s == "none" {
			return nil
		}
		for number := range strings.SplitSeq(s, "+") {
			n, err := strconv.ParseUint(number, 10, 8)
			if err != nil {
				return fmt.Errorf("%q is no number of a PCR", number)
			}
			o.Root.PCRs = append(o.Root.PCRs, uint(n))
		}
		return nil
	}
}

// list collects the values of a flag that may be given more than once.
func list(into *[]string) func(string) error {
	return func(s string) error {
		if s == "" {
			return errors.New("is empty")
		}
		*into = append(*into, s)
		return nil
	}
}

// tlsFile puts a file into the first pair that lacks it.
func tlsFile(o *appliance.Options, of func(*certfile.Pair) *string) func(string) error {
	return func(s string) error {
		if s == "" {
			return errors.New("is empty")
		}
		i := slices.IndexFunc(o.CertFiles, func(p certfile.Pair) bool { return *of(&p) == "" })
		if i < 0 {
			o.CertFiles = append(o.CertFiles, certfile.Pair{})
			i = len(o.CertFiles) - 1
		}
		*of(&o.CertFiles[i]) = s
		return nil
	}
}

func size(into *int64) func(string) error {
	return func(s string) (err error) {
		*into, err = appliance.ParseBytes(s)
		return err
	}
}

func identityProviders(o *appliance.Options) func(string) error {
	return func(s string) error {
		p, err := oidc.ParseProvider(s)
		o.Identities = append(o.Identities, p)
		return err
	}
}

func mountTargets(o *appliance.Options) func(string) error {
	return func(s string) error {
		text, id, ok := strings.Cut(s, "=")
		address, err := netip.ParseAddr(text)
		if !ok || err != nil {
			return fmt.Errorf("%q is not address=fs-id", s)
		}
		if o.MountTargets == nil {
			o.MountTargets = make(map[netip.Addr]string)
		}
		o.MountTargets[address] = id
		return nil
	}
}

// newLogger logs to w, in words for people or in JSON for machines.
func newLogger(format string, level zapcore.Level, w io.Writer) (*zap.Logger, error) {
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.ISO8601TimeEncoder
	var encoder zapcore.Encoder
	switch format {
	case "json":
		encoder = zapcore.NewJSONEncoder(c)
	case "console":
		encoder = zapcore.NewConsoleEncoder(c)
	default:
		return nil, fmt.Errorf("log format %q is neither console nor json", format)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)), nil
}
