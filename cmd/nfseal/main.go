package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/nfseal/nfseal/appliance/api"
)

// version is set by the linker.
var version = "unknown"

// The exit statuses.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

const defaultDataDir = "/var/lib/nfseal"

// errUsage says that the command line is wrong; what and how was told already.
var errUsage = errors.New("wrong usage")

// command is one line of the table.
type command struct {
	name  string // words, as typed
	usage string // what follows the name
	short string
	run   runner
}

// env is what commands need of the outside.
type env struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	// socket and endpoint are of the environment.
	socket, endpoint string
	// command is the name of the one that runs.
	command string
}

func commands() []command {
	return slices.Concat(fileSystemCommands(), identityCommands(), networkCommands(), applianceCommands())
}

// fileSystemCommands are those on file systems and KMS keys.
func fileSystemCommands() []command {
	return []command{
		{"fs create", "[--name NAME] [--kms-key-id KEY] [--token TOKEN] [--tag KEY=VALUE]…", "make a file system", fsCreate},
		{"fs list", "", "list the file systems", fsList()},
		{"fs delete", "FS-ID", "destroy a file system: its keys first, then all that it holds", on1((*api.Client).DeleteFileSystem)},
		{"fs quota", "FS-ID [--set SIZE|none]", "show or set how much a file system may hold, at once", fsQuota},
		{"fs policy show", "FS-ID", "print a file system's policy", of((*api.Client).FileSystemPolicy, policyText)},
		{"fs policy put", "FS-ID FILE", "give a file system the policy in FILE (- is the standard input), at once", withFile(2, fsPolicyPut)},
		{"fs rotate-data-key", "FS-ID [--wait] [--rate MIB] [--pause|--resume]", "encrypt a file system anew under new data keys while it is served, and destroy the old ones", rotateDataKey},
		{"fs data-key", "FS-ID", "which data keys a file system has, and how far new ones are", showDataKey},
		{"fs policy delete", "FS-ID", "take a file system's policy away: everybody may mount it", on1((*api.Client).DeleteFileSystemPolicy)},
		{"key create", "[--alias alias/NAME] [--description TEXT] [--policy FILE] [--rotate-every DAYS] [--tag KEY=VALUE]…", "make a KMS key", keyCreate},
		{"key list", "", "list the KMS keys", keyList()},
		{"key describe", "KEY", "show a KMS key: KEY is an id, alias/…, or the ARN of either", of((*api.Client).Key, keyText)},
		{"key enable", "KEY", "let a KMS key be used; the I/O of its file systems goes on", on1((*api.Client).EnableKey)},
		{"key disable", "KEY", "forbid the use of a KMS key; the I/O of its file systems fails from then on", on1((*api.Client).DisableKey)},
		{"key rotate", "KEY [--every DAYS|never]", "give a KMS key a new version, now or every so many days", keyRotate},
		{"key schedule-deletion", "KEY [--days DAYS]", "destroy a KMS key in some days, and with it all that its file systems hold", keyScheduleDeletion},
		{"key cancel-deletion", "KEY", "keep a KMS key; it is disabled then", on1((*api.Client).CancelKeyDeletion)},
		{"key alias list", "", "list the aliases of KMS keys", keyAliasList()},
		{"key alias set", "alias/NAME KEY", "make an alias a name of a KMS key, though it be that of another", on2((*api.Client).SetKeyAlias)},
		{"key alias delete", "alias/NAME", "take an alias away; its KMS key stays", on1((*api.Client).DeleteKeyAlias)},
		{"key policy show", "KEY", "print the policy of a KMS key", of((*api.Client).KeyPolicy, policyText)},
		{"key policy put", "KEY FILE", "give a KMS key the policy in FILE (- is the standard input), at once", withFile(2, keyPolicyPut)},
		{"key grant list", "KEY", "list the grants of a KMS key", keyGrantList()},
		{"key grant create", "KEY --to PRINCIPAL --operation NAME… [--context NAME=VALUE]…", "let a principal use a KMS key", keyGrantCreate},
		{"key grant revoke", "KEY GRANT-ID", "end a grant of a KMS key, at once", on2((*api.Client).RevokeKeyGrant)},
	}
}

// identityCommands are those on users, roles and access points.
func identityCommands() []command {
	return []command{
		{"user create", "NAME", "make a user, who can do nothing yet", on1((*api.Client).CreateUser)},
		{"user list", "", "list the users, their keys and policies", userList()},
		{"user delete", "NAME", "forget a user, with keys and policies, at once", on1((*api.Client).DeleteUser)},
		{"user key create", "NAME", "make an access key for a user; its secret is shown once", userKeyCreate()},
		{"user key delete", "NAME KEY-ID", "take an access key from a user, at once", on2((*api.Client).DeleteAccessKey)},
		{"user policy put", "NAME POLICY FILE", "give a user the policy in FILE under a name, at once", withFile(3, userPolicyPut)},
		{"user policy delete", "NAME POLICY", "take a policy from a user, at once", on2((*api.Client).DeleteUserPolicy)},
		{"role create", "NAME --trust FILE [--max-session TIME]", "make a role, which can do nothing yet, for those to assume whom the policy in FILE trusts", roleCreate},
		{"role list", "", "list the roles and their policies", roleList()},
		{"role delete", "NAME", "forget a role, with its policies, and end its sessions, at once", on1((*api.Client).DeleteRole)},
		{"role trust show", "NAME", "print the policy that says who may assume a role", of(roleTrust, policyText)},
		{"role trust put", "NAME FILE", "let those assume a role whom the policy in FILE trusts; sessions that there are stay", withFile(2, roleTrustPut)},
		{"role policy put", "NAME POLICY FILE", "give a role the policy in FILE under a name, at once", withFile(3, rolePolicyPut)},
		{"role policy delete", "NAME POLICY", "take a policy from a role, at once", on2((*api.Client).DeleteRolePolicy)},
		{"ap create", "FS-ID [--path DIRECTORY] [--user UID:GID] [--create-owner UID:GID]…", "make an access point, which pins its clients' user and root directory", accessPointCreate},
		{"ap list", "FS-ID", "list the access points of a file system", accessPointList()},
		{"ap delete", "ID", "forget an access point; its connections can do nothing from then on", on1((*api.Client).DeleteAccessPoint)},
	}
}

// networkCommands are those on mount targets, subnets and security groups.
func networkCommands() []command {
	return []command{
		{"target create", "FS-ID --subnet ID [--address ADDRESS] [--group ID]…", "serve a file system at an address", targetCreate},
		{"target list", "FS-ID", "list the mount targets of a file system", targetList()},
		{"target delete", "ID", "remove a mount target and its address", on1((*api.Client).DeleteMountTarget)},
		{"target groups", "ID [--group ID]…", "show or change the security groups of a mount target", targetGroups},
		{"subnet create", "--interface INTERFACE --prefix PREFIX", "say on which interface the addresses of a subnet are kept", subnetCreate},
		{"subnet list", "", "list the subnets", subnetList()},
		{"subnet delete", "ID", "forget a subnet without mount targets", on1((*api.Client).DeleteSubnet)},
		{"group create", "NAME [--description TEXT]", "make a security group, which admits nobody yet", groupCreate},
		{"group list", "", "list the security groups and their rules", groupList()},
		{"group delete", "ID", "forget a security group that no mount target has", on1((*api.Client).DeleteSecurityGroup)},
		{"group allow", "ID --from PREFIX… [--file FILE] [--port PORT]", "admit clients to the mount targets with a security group", groupAllow},
		{"group revoke", "ID RULE-ID", "take a rule out of a security group", on2((*api.Client).RemoveRule)},
	}
}

// applianceCommands are those on the appliance, and what else there is.
func applianceCommands() []command {
	return []command{
		{"volume grow", "SIZE|device [--unit ID]", "enlarge the volume while the daemon runs, to a size or to what its device has", volumeGrow},
		{"status", "", "how the daemon, its units and file systems are", status},
		{"net show", "[--measure TIME]", "mount target addresses, steering, the gate and what they counted", netShow},
		{"upgrade show", "", "how the last upgrade of the image went", upgradeShow},
		{"upgrade", "FILE", "bring another version to the image: its bundle is checked and written beside the one that runs, which comes back if it does not prove itself; the machine starts again", upgrade},
		{"install disks", "--to ADDRESS --fingerprint SHA256 --code CODE", "the disks of a machine in maintenance, whose console shows fingerprint and code", installDisks},
		{"install write", "DISK [--config FILE] [--erase] [--restart] --to ADDRESS --fingerprint SHA256 --code CODE", "install the system on a disk of a machine in maintenance: its name, serial:… or wwid:…; what is written is read back", installWrite},
		{"install configure", "FILE --to ADDRESS --fingerprint SHA256 --code CODE", "give a machine in maintenance its configuration", installConfigure},
		{"install restart", "--to ADDRESS --fingerprint SHA256 --code CODE", "start a machine in maintenance again", installRestart},
		{"config apply", "FILE [--try [--for SECONDS]]", "have the daemon start again with another configuration file; with --try the one from before comes back unless it is confirmed", configApply},
		{"config confirm", "", "keep the configuration that is being tried", configConfirm},
		{"config show", "", "print the configuration file in force", configShow},
		{"config check", "FILE", "say what is wrong in a configuration file, with line and column; the daemon is not asked", configCheck},
		{"check", "", "what is on and what is not, and whether the data directory is sound", check},
		{"compliance", "", "what each rule says of file systems, keys and the appliance; the exit status is 3 if one is not met", compliance},
		{"fsck", "FS-ID | --offline [--repair]", "check the metadata of a file system that is served, or of all when no daemon runs", fsck},
		{"scrub start", "FS-ID [--rate MIB]", "read all of a file system in the background and check every block's tag", scrubStart},
		{"scrub show", "FS-ID", "how the scrub is and what it found", scrubShow},
		{"scrub pause", "FS-ID", "let the scrub wait", scrubPause},
		{"scrub resume", "FS-ID [--rate MIB]", "let it go on", scrubResume},
		{"scrub cancel", "FS-ID", "end it; scrub start can go on where it stopped", scrubCancel},
		{"audit verify", "[--dir DIRECTORY] [--last HASH]", "check that nothing of the audit log was changed, cut out or put in another order", auditVerify},
		{"audit lookup", "[--event NAME] [--about ID] [--since TIME]…", "print the newest records of the audit log that match", auditLookup},
		{"bench", "[--compare | --server ...]", "measure the daemon over TLS, beside others if asked, or any server of NFSv4.1", benchmark},
		{"demo", "", "as root: a real Linux client mounts, copies, compares; then the search for plaintext", runDemo},
		{"completion", "bash|zsh|fish", "print what makes a shell complete nfseal's commands", completion},
		{"complete", "", "", complete},
		{"version", "", "print the version", showVersion},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	e := &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, socket: os.Getenv("NFSEAL_SOCKET"), endpoint: os.Getenv("NFSEAL_ENDPOINT_URL")}
	os.Exit(run(ctx, e, os.Args[1:]))
}

func run(ctx context.Context, e *env, args []string) int {
	if len(args) == 0 {
		help(e.stderr)
		return exitUsage
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		help(e.stdout)
		return exitOK
	}
	c, rest := find(args)
	if c == nil {
		fmt.Fprintf(e.stderr, "nfseal: there is no command %q; nfseal help lists them\n", strings.Join(args, " "))
		return exitUsage
	}
	e.command = c.name
	var special *exitStatus
	switch err := c.run(ctx, e, rest); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.As(err, &special):
		fmt.Fprintln(e.stderr, "nfseal:", strings.ReplaceAll(special.text, "\n", "; "))
		return special.status
	default:
		fmt.Fprintln(e.stderr, "nfseal:", strings.ReplaceAll(err.Error(), "\n", "; "))
		return exitFailure
	}
}

// find returns the command that args begin with, and the arguments after it.
func find(args []string) (*command, []string) {
	for _, c := range commands() {
		words := strings.Fields(c.name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == c.name {
			return &c, args[len(words):]
		}
	}
	return nil, nil
}

func help(w io.Writer) {
	fmt.Fprint(w, "nfseal: the operator's command of the nfseal appliance\n\n")
	for _, c := range commands() {
		if c.short == "" { // for scripts
			continue
		}
		fmt.Fprintf(w, "  nfseal %-21s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, "\nnfseal COMMAND --help tells more.\n")
}

// flags are those of one command, with the ones that many have.
type flags struct {
	*flag.FlagSet
	data, socket string
	remote       remote
	json         bool
}

// newFlags prepares the flags of the command with the given name.
func newFlags(e *env, name string) *flags {
	f := &flags{FlagSet: flag.NewFlagSet("nfseal "+name, flag.ContinueOnError)}
	f.SetOutput(e.stderr)
	f.Usage = func() {
		for _, c := range commands() {
			if c.name == name {
				fmt.Fprintf(e.stderr, "Usage: nfseal %s %s\n\n%s\n\n", c.name, c.usage, c.short)
			}
		}
		f.PrintDefaults()
	}
	return f
}

// withDaemon adds the flags that say where the daemon is.
func (f *flags) withDaemon() *flags {
	f.StringVar(&f.data, "data", defaultDataDir, "the daemon's data `directory`")
	f.StringVar(&f.socket, "socket", "", "the daemon's `socket` (default api.sock in the data directory)")
	f.BoolVar(&f.json, "json", false, "print JSON")
	f.remote.register(f.FlagSet)
	return f
}

// parse reads args and wants the given number of arguments after the flags.
func (f *flags) parse(args []string, want int) ([]string, error) {
	positional, err := f.parseSome(args)
	if err != nil {
		return nil, err
	}
	if len(positional) != want {
		fmt.Fprintf(f.Output(), "%s: %d arguments are wanted, not %d\n", f.Name(), want, len(positional))
		f.Usage()
		return nil, errUsage
	}
	return positional, nil
}

// parseSome reads args and returns the arguments besides the flags, which may stand before, between or
// behind them.
func (f *flags) parseSome(args []string) ([]string, error) {
	var positional []string
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, errUsage
		}
		if f.NArg() == 0 {
			return positional, nil
		}
		positional, args = append(positional, f.Arg(0)), f.Args()[1:]
	}
}

// socketPath is where that daemon listens.
func (f *flags) socketPath(e *env) string {
	given := false
	f.Visit(func(v *flag.Flag) { given = given || v.Name == "data" })
	switch {
	case f.socket != "":
		return f.socket
	case !given && e.socket != "":
		return e.socket
	}
	return filepath.Join(f.data, "api.sock")
}

func showVersion(_ context.Context, e *env, args []string) error {
	if _, err := newFlags(e, "version").parse(args, 0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(e.stdout, "nfseal", version)
	return err
}
