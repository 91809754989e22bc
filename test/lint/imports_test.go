package lint

import (
	"strings"
	"testing"
)

// A rule says which rooms of ours a room may import, outside its tests. An entry that ends with /...
// stands for a room and all below it.
type rule struct {
	room string
	may  []string
	why  string
}

// rules are the table of docs/architecture.md. Every package has one: a new room is a new line here
// and there.
var rules = []rule{
	{"cmd/nfseald", []string{"appliance/..."},
		"the daemon is flags, log and signals; what it does belongs to appliance, where tests reach it"},
	{"cmd/nfseal", []string{"appliance/api/...", "appliance/audit", "appliance/configfile", "image/maintenance", "proxy/nfsclient/...", "proxy/transport", "internal/demo"},
		"the operator's command speaks HTTP like any other client; it must not reach into a data directory, but for the audit log, which is read without the daemon"},
	{"cmd/mount.nfseal", []string{"proxy/ktls", "proxy/tunnel", "proxy/tunnel/supervisor", "proxy/transport"},
		"it is installed alone on client machines: no server code in it"},

	{"appliance", []string{"appliance/...", "proxy/...", "xtsengine/...", "bpf/...", "ownership", "internal/cpuidle"},
		"this room joins both worlds; nothing below it knows the other side"},
	{"appliance/api", []string{"appliance/catalog", "appliance/audit", "appliance/compliance", "appliance/iam", "appliance/kms", "appliance/oidc", "appliance/policy"},
		"HTTP over the control plane's state; data paths are behind the interfaces that it declares"},
	{"appliance/api/apitest", []string{"appliance/catalog", "appliance/iam", "appliance/kms", "appliance/policy"},
		"parts of a backend for the tests of the API and of its clients"},
	{"appliance/catalog", []string{"appliance/durable"},
		"durable control-plane state, shaped like etcd, which will replace it: no knowledge of its users"},
	{"appliance/kms", []string{"appliance/audit", "appliance/catalog", "appliance/durable", "appliance/policy", "xtsengine/keyring"},
		"it implements keyring's interfaces and records every unwrap; it serves no files"},
	{"appliance/trust", []string{"appliance/durable"},
		"what keeps the root key: it is given 32 bytes, and knows nothing of what they open"},
	{"appliance/trust/trusttest", nil,
		"what stands in for a TPM or a Vault knows nothing of those who ask it"},
	{"appliance/iam", []string{"appliance/policy"},
		"access keys are made, hidden and checked here; who has which is the catalog's"},
	{"appliance/oidc", []string{"appliance/durable"},
		"whose tokens are believed, by keys in files; what they may do is for policies to say"},
	{"appliance/oidc/oidctest", nil,
		"a provider, for tests, knows nothing of those who believe it"},
	{"appliance/policy", nil,
		"a pure evaluator: documents and a request in, a decision out"},
	{"appliance/compliance", []string{"appliance/policy"},
		"pure rules: how things are goes in, what is to be said of it comes out"},
	{"appliance/configfile", []string{"appliance/durable"},
		"a file is read and judged by its words alone: what a setting does is known to those who have the flag of its name"},
	{"appliance/pki", []string{"appliance/durable"},
		"certificates and OCSP answers are made from names and keys alone"},
	{"appliance/certfile", []string{"appliance/durable", "proxy/transport"},
		"files, their checks and their OCSP responses, fetched as a client would; whose they are is not known here"},
	{"appliance/audit", []string{"appliance/durable"},
		"everybody may record, so it may know nobody"},
	{"appliance/audit/forward", []string{"appliance/audit", "appliance/durable"},
		"it reads a log and sends it on; who writes the log, and what, is not known here"},
	{"appliance/network", []string{"bpf/..."},
		"addresses, routes and kernel programs; which of them there are to be is its caller's business"},
	{"appliance/durable", nil,
		"a leaf: how a small file is replaced so that a crash leaves the old or the new one"},
	{"ownership", nil,
		"a contract package: it says who owns a unit, and imports nothing of ours"},

	{"proxy", []string{"proxy/ktls", "proxy/rpc", "proxy/transport", "proxy/xdr"},
		"the data plane never imports the control plane: it declares Resolver, and appliance implements it"},
	{"proxy/tlsrecord", []string{"proxy/tlsrecord/gcm", "internal/hugemem", "internal/nowait"},
		"the records of an established session: who may have one is decided above"},
	{"proxy/tlsrecord/gcm", []string{"internal/aes256", "internal/x86"},
		"a cipher is read and tested alone, but for what it has in common with the engine's: a part of AES, and what the processor has"},
	{"proxy/tlsrecord/sessiontest", []string{"proxy/transport/transporttest"},
		"a contract for whoever carries sessions, so it knows none of them"},
	{"proxy/ktls", []string{"proxy/tlsrecord", "internal/nowait"},
		"it carries sessions whose keys it is given, and goes back to their own records where the kernel can't"},
	{"proxy/transport", []string{"proxy/ktls", "proxy/tlsrecord", "proxy/rpc", "proxy/xdr"},
		"TLS policy and identity, used by both ends of a connection, so it knows neither server nor tunnel"},
	{"proxy/transport/transporttest", nil,
		"certificates and answers for tests come from the standard library, not from what they test"},
	{"proxy/xdr", nil,
		"a leaf: the cursors over untrusted bytes are read and fuzzed alone"},
	{"proxy/rpc", []string{"proxy/xdr", "internal/hugemem", "internal/nowait"},
		"record marking and dispatch know no program: NFS is one handler among others"},
	{"proxy/ssv", []string{"proxy/xdr"},
		"keys and tokens are read alone: the mechanism knows of no client, session or call"},
	{"proxy/nfs4", []string{"proxy/nfs4/...", "proxy/rpc", "proxy/ssv", "proxy/xdr", "xtsengine/vfs", "ownership"},
		"the protocol sees storage only through the contract vfs, never an engine"},
	{"proxy/nfs4/wire", []string{"proxy/xdr"},
		"the codec is pure: bytes in, structures out"},
	{"proxy/nfs4/state", []string{"proxy/nfs4/wire", "proxy/ssv"},
		"a pure state machine without I/O, so that its tests own the clock and every interleaving"},
	{"proxy/nfsclient", []string{"proxy/nfs4/wire", "proxy/rpc", "proxy/xdr"},
		"a client that shared code with the server beyond the codec would share its mistakes"},
	{"proxy/nfsclient/bench", []string{"proxy/nfsclient", "proxy/nfs4/wire"},
		"it measures any NFSv4.1 server over connections that it is given"},
	{"proxy/tunnel", []string{"proxy/ktls", "proxy/transport"},
		"the client's end is installed without the server"},
	{"proxy/tunnel/supervisor", []string{"proxy/tunnel"},
		"it keeps processes and sockets; what a tunnel is told of its server is not its business"},

	{"xtsengine/vfs", nil,
		"the contract between protocol and storage imports nothing, so both sides can be replaced alone"},
	{"xtsengine/vfs/...", []string{"xtsengine/vfs"},
		"model and contract suite know the contract, and no implementation of it"},
	{"xtsengine/filestore", []string{"xtsengine/vfs", "xtsengine/volume", "xtsengine/blockdev", "internal/hugemem"},
		"files are made of names and blocks (and blockdev's buffers and errors); keys are below volume and cryptfs"},
	{"xtsengine/volume", []string{"xtsengine/blockdev", "xtsengine/mac", "xtsengine/xts", "ownership"},
		"blocks know no files"},
	{"xtsengine/cryptfs", []string{"xtsengine/keyring", "xtsengine/xts"},
		"it encrypts what a store writes, whatever that means"},
	{"xtsengine/keyring", nil,
		"the package that holds keys must be small enough to be read whole"},
	{"xtsengine/xts", []string{"internal/aes256", "internal/x86"},
		"a cipher, without policy"},
	{"xtsengine/xts/ceiling", nil,
		"a measure that shared code with what it measures would be no measure"},
	{"xtsengine/mac", nil,
		"a tag, without policy: who keeps tags and what follows a wrong one is not known here"},
	{"xtsengine/blockdev", nil,
		"a device moves bytes that it cannot read"},
	{"xtsengine/blockdev/...", []string{"xtsengine/blockdev"},
		"the device in memory stands in for the contract's other implementations"},

	{"bpf/bpffs", nil,
		"a leaf: where maps and links are pinned"},
	{"bpf/gate", []string{"bpf/bpffs"},
		"a kernel program and its wrapper: it decides on packets alone, and is told nothing about files"},
	{"bpf/steer", []string{"bpf/bpffs"},
		"a kernel program and its wrapper: proxy uses it, so it may not know proxy"},

	{"image/build", []string{"appliance/trust", "image/gpt", "image/initramfs", "image/install", "image/iso", "image/lock", "image/modules", "image/sbom", "image/uki", "image/update", "image/verity", "image/vmdk"},
		"it puts built programs and packages together, and knows nothing of what they do, but what a TPM's root of trust wants signed"},
	{"image/stage1", []string{"image/disks", "image/gpt", "image/verity"},
		"what runs before the root is verified must be small enough to be read whole"},
	{"image/firstboot", []string{"image/disks", "image/gpt"},
		"which disk is taken and how is decided here alone, on what a disk holds; what is kept there is not known"},
	{"image/install", []string{"image/firstboot", "image/gpt", "image/verity"},
		"what is written to a disk that gets the system, and how it is looked at again; who may ask for it is not known"},
	{"image/iso", nil,
		"a leaf: descriptors of a CD, whatever is on it"},
	{"image/maintenance", []string{"appliance/configfile"},
		"an API before there is a daemon: who is let in is decided here alone, and the machine is behind an interface"},
	{"image/provision", []string{"appliance/configfile", "appliance/durable"},
		"where a configuration is found and what becomes of the machine by it; which disk it is for is not known"},
	{"image/nfseal-boot", []string{"appliance/api", "appliance/configfile", "appliance/durable", "appliance/trust", "image/disks", "image/firstboot", "image/gpt", "image/install", "image/maintenance", "image/provision", "image/update", "image/verity", "proxy/nfs4/wire", "proxy/nfsclient", "proxy/transport"},
		"it runs beside the daemon and speaks to it over its socket, as the operator's command does, and as a client that mounts; a TPM is tried before the daemon is told to use it"},
	{"image/update", []string{"appliance/durable", "image/gpt", "image/verity"},
		"what is written to the system disk, and by whose signature, is decided here alone"},
	{"image/rig", []string{"image/gpt", "internal/uml", "internal/tree"},
		"it runs the built image from outside, as a hypervisor would; firmware has GUIDs in the order of a partition table"},
	{"image/disks", []string{"image/gpt"},
		"it reads what the kernel says of disks; what becomes of them is decided above"},
	{"image/gpt", nil,
		"a leaf: tables on foreign disks are read and fuzzed alone"},
	{"image/initramfs", nil,
		"a leaf: an archive, whatever is in it"},
	{"image/lock", nil,
		"a leaf: a list of packages, read and written"},
	{"image/modules", nil,
		"a leaf: names of modules and their needs"},
	{"image/sbom", []string{"image/lock"},
		"it names what the lock and the built programs name"},
	{"image/uki", nil,
		"a leaf: sections of a program, whatever is in them"},
	{"image/verity", nil,
		"a leaf: it opens what it is told, and trusts nothing that it reads"},
	{"image/vmdk", nil,
		"a leaf: a disk in another format, whatever is on it"},
	{"internal/aes256", nil,
		"a leaf: what two ciphers have in common is read and tested alone"},
	{"internal/cpuidle", nil,
		"a leaf: what the kernel does with idle processors"},
	{"internal/crashfs", nil,
		"a leaf: what a crash leaves, whatever was written"},
	{"internal/hugemem", nil,
		"a leaf: memory, whatever it is for"},
	{"internal/nowait", nil,
		"a leaf: how the kernel is called, whatever for"},
	{"internal/x86", nil,
		"a leaf: what the processor has, whoever asks"},
	{"internal/tree", nil,
		"it judges copies made through the server, so it shares nothing with it"},
	{"internal/kernelvm", nil,
		"the init of a machine that holds nothing but tests: it only starts them"},
	{"internal/uml", []string{"internal/uml/control"},
		"it boots a client that is not ours, and works the same for any server"},
	{"internal/uml/control", nil,
		"spoken by both sides of a guest's wall"},
	{"internal/uml/guest", []string{"internal/uml/control", "internal/tree"},
		"one small static binary for a machine without anything"},
	{"internal/daemon", []string{"internal/uml", "appliance/api"},
		"it runs the built daemon as a process, and speaks to it as the operator's command does"},
	{"internal/demo", []string{"internal/daemon", "internal/uml", "internal/tree"},
		"the demo uses the built programs from outside, as a user would"},
	{"test/...", []string{"internal/...", "proxy/...", "appliance/...", "xtsengine/..."},
		"tests look wherever they must"},
}

func ruleFor(room string) *rule {
	var best *rule
	for i := range rules {
		r := &rules[i]
		if matches(r.room, room) && (best == nil || len(r.room) > len(best.room)) {
			best = r
		}
	}
	return best
}

func matches(pattern, room string) bool {
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return strings.HasPrefix(room, below+"/") || room == below
	}
	return pattern == room
}

func (r *rule) allows(room string) bool {
	for _, pattern := range r.may {
		if matches(pattern, room) {
			return true
		}
	}
	return false
}

func TestImports(t *testing.T) {
	for _, p := range listPackages(t) {
		r := ruleFor(p.room())
		if r == nil {
			t.Errorf("%s: no rule says what it may import: add one here and to docs/architecture.md", p.room())
			continue
		}
		for _, path := range p.Imports {
			room, ours := strings.CutPrefix(path, module+"/")
			if ours && !r.allows(room) {
				t.Errorf("%s imports %s, but may import only %q: %s", p.room(), room, r.may, r.why)
			}
		}
	}
}

// foreign are packages of others that stay out of some rooms.
var foreign = []struct {
	path  string
	rooms []string
	why   string
}{
	{"go.uber.org/zap", []string{"xtsengine/...", "proxy/nfs4/...", "proxy/rpc", "proxy/xdr", "proxy/nfsclient", "ownership"},
		"no logging on per-operation paths: callbacks and counters"},
	{"github.com/cockroachdb/pebble/v2", []string{"proxy/...", "xtsengine/volume", "xtsengine/blockdev/...", "xtsengine/vfs/..."},
		"the metadata store is the engine's own business"},
	{"crypto/tls", []string{"xtsengine/...", "proxy/nfs4/...", "proxy/rpc", "proxy/xdr"},
		"transport security ends in proxy/transport"},
	{"net/http", []string{"xtsengine/...", "proxy/nfs4/...", "proxy/rpc", "proxy/xdr"},
		"the control plane speaks HTTP, the data plane does not"},
}

func TestForeignImports(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, f := range foreign {
			for _, pattern := range f.rooms {
				if !matches(pattern, p.room()) {
					continue
				}
				for _, path := range p.Imports {
					if path == f.path || strings.HasPrefix(path, f.path+"/") {
						t.Errorf("%s imports %s: %s", p.room(), path, f.why)
					}
				}
			}
		}
	}
}

func TestRulesAreDocumented(t *testing.T) {
	text := readFile(t, "docs/architecture.md")
	for _, r := range rules {
		if r.why == "" {
			t.Errorf("the rule for %s has no reason", r.room)
		}
		room := strings.TrimSuffix(r.room, "/...")
		if strings.HasPrefix(room, "internal/uml/") {
			continue // parts of one room
		}
		if !strings.Contains(text, "`"+room+"`") {
			t.Errorf("docs/architecture.md does not name `%s`", room)
		}
	}
}

// The rules would be worth nothing if they allowed everything.
func TestRulesRefuse(t *testing.T) {
	for _, c := range [][2]string{
		{"proxy", "appliance"}, {"proxy/nfs4", "xtsengine/filestore"}, {"xtsengine/volume", "proxy"},
		{"xtsengine/vfs", "proxy/xdr"}, {"xtsengine/vfs/memvfs", "xtsengine/filestore"},
		{"cmd/mount.nfseal", "appliance"}, {"appliance/kms", "appliance"},
	} {
		if r := ruleFor(c[0]); r == nil || r.allows(c[1]) {
			t.Errorf("%s may import %s", c[0], c[1])
		}
	}
}
