package appliance

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
)

// awsCLI runs the unmodified aws CLI against the front door.
type awsCLI struct {
	program string
	env     []string
	flags   []string
	shell   *awsShell // runs the calls; nil: each is a process
}

// awsShell is a process that has loaded the CLI's own code and runs call after call: to start the CLI takes most of
// a second of a processor, which is most of what a call takes.
type awsShell struct {
	in  *json.Encoder
	out *json.Decoder
}

// awsLoop runs what bin/aws runs, for each line of its standard input, which is a list of arguments.
const awsLoop = `
import contextlib, io, json, sys
from awscli.clidriver import create_clidriver
answers = sys.stdout
for line in sys.stdin:
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = create_clidriver().main(json.loads(line))
    json.dump({"Status": status, "Out": out.buffer.getvalue().decode()}, answers)
    answers.flush()
`

// newAWSShell returns nil where the CLI's code is not that of the Python in the path.
func newAWSShell(t *testing.T, env []string) *awsShell {
	t.Helper()
	if exec.Command("python3", "-c", "import awscli.clidriver").Run() != nil {
		return nil
	}
	cmd := exec.Command("python3", "-c", awsLoop)
	cmd.Env, cmd.Stderr = env, os.Stderr
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return &awsShell{json.NewEncoder(in), json.NewDecoder(out)}
}

// try returns what the CLI printed, and whether it succeeded.
func (s *awsShell) try(args []string) (string, bool) {
	var answer struct {
		Status int
		Out    string
	}
	if err := errors.Join(s.in.Encode(args), s.out.Decode(&answer)); err != nil {
		return err.Error(), false
	}
	return answer.Out, answer.Status == 0
}

// newAWS makes a user who may do everything, and gives the CLI its access key.
func newAWS(t *testing.T, a *running, document string) *awsCLI {
	t.Helper()
	program, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("the aws CLI is not installed: it runs in make test, which installs it")
	}
	ctx, name := t.Context(), "admin"
	if _, err := a.CreateUser(ctx, name); err != nil {
		t.Fatal(err)
	}
	if err := a.PutUserPolicy(ctx, name, "all", document); err != nil {
		t.Fatal(err)
	}
	id, secret, err := a.CreateAccessKey(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	c := &awsCLI{
		program: program,
		env: append(os.Environ(), "AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+secret.Reveal(), "AWS_SESSION_TOKEN=",
			"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1"),
		flags: []string{"--endpoint-url", a.frontURL(), "--ca-bundle", a.dir.caFile(), "--region", a.o.Region, "--output", "json"},
	}
	c.shell = newAWSShell(t, c.env)
	return c
}

// with is the CLI with other variables in its environment, as processes of their own.
func (c *awsCLI) with(env ...string) *awsCLI {
	return &awsCLI{program: c.program, env: append(slices.Clone(c.env), env...), flags: c.flags}
}

// try returns what the CLI printed, and whether it succeeded.
func (c *awsCLI) try(args ...string) (string, bool) {
	args = append(slices.Clone(c.flags), args...)
	if c.shell != nil {
		return c.shell.try(args)
	}
	cmd := exec.Command(c.program, args...)
	cmd.Env = c.env
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// do fails the test unless the CLI succeeds; into is filled from what it printed, if it is not nil.
func (c *awsCLI) do(t *testing.T, into any, args ...string) {
	t.Helper()
	out, ok := c.try(args...)
	if !ok {
		t.Fatalf("aws %s: %s", strings.Join(args, " "), out)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("aws %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// refused fails the test unless the CLI shows the error code.
func (c *awsCLI) refused(t *testing.T, code string, args ...string) {
	t.Helper()
	if out, ok := c.try(args...); ok || !strings.Contains(out, "("+code+")") {
		t.Errorf("aws %s: %s, want %s", strings.Join(args, " "), out, code)
	}
}

const mayEverything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

func TestAWSCLIOnEFS(t *testing.T) {
	a := start(t, testOptions(t.TempDir()))
	aws := newAWS(t, a, mayEverything)
	var made struct{ FileSystemId, LifeCycleState string }
	aws.do(t, &made, "efs", "create-file-system", "--creation-token", "one", "--performance-mode", "generalPurpose", "--encrypted",
		"--tags", "Key=Name,Value=first")
	aws.refused(t, "FileSystemAlreadyExists", "efs", "create-file-system", "--creation-token", "one")
	var described struct {
		FileSystems []struct{ FileSystemId, Name string }
	}
	aws.do(t, &described, "efs", "describe-file-systems", "--file-system-id", made.FileSystemId)
	if len(described.FileSystems) != 1 || described.FileSystems[0].Name != "first" {
		t.Errorf("described: %+v", described)
	}
	aws.refused(t, "PolicyNotFound", "efs", "describe-file-system-policy", "--file-system-id", made.FileSystemId)
	aws.refused(t, "FileSystemNotFound", "efs", "delete-file-system", "--file-system-id", "fs-0123456789abcdef0")
	aws.do(t, nil, "efs", "delete-file-system", "--file-system-id", made.FileSystemId)
	var who struct{ Account, Arn, UserId string }
	aws.do(t, &who, "sts", "get-caller-identity")
	if who.Account != api.OwnerID || who.Arn != iam.UserARN("admin") || !strings.HasPrefix(who.UserId, "AIDA") {
		t.Errorf("who calls: %+v", who)
	}
	aws.refused(t, "AccessDenied", "sts", "assume-role", "--role-arn", "arn:aws:iam::000000000000:role/r", "--role-session-name", "session")
	stranger := aws.with("AWS_SECRET_ACCESS_KEY=another")
	stranger.refused(t, "InvalidSignatureException", "efs", "describe-file-systems")
}

// everyEFS is each operation of EFS that the tests beside it don't use, in an order in which they succeed. fs, ap, mt,
// subnet and group stand for ids.
var everyEFS = []string{
	"describe-account-preferences", "put-account-preferences --resource-id-type LONG_ID",
	"update-file-system --file-system-id fs --throughput-mode elastic",
	"update-file-system-protection --file-system-id fs --replication-overwrite-protection DISABLED",
	"put-lifecycle-configuration --file-system-id fs --lifecycle-policies TransitionToIA=AFTER_30_DAYS",
	"describe-lifecycle-configuration --file-system-id fs",
	"put-backup-policy --file-system-id fs --backup-policy Status=DISABLED", "describe-backup-policy --file-system-id fs",
	"describe-replication-configurations",
	"put-file-system-policy --file-system-id fs --policy " + mountPolicy, "describe-file-system-policy --file-system-id fs",
	"delete-file-system-policy --file-system-id fs",
	"tag-resource --resource-id ap --tags Key=a,Value=b", "list-tags-for-resource --resource-id arn:ap", "untag-resource --resource-id ap --tag-keys a",
	"create-tags --file-system-id fs --tags Key=a,Value=b", "describe-tags --file-system-id fs", "delete-tags --file-system-id fs --tag-keys a",
	"describe-access-points --file-system-id fs", "delete-access-point --access-point-id ap",
	"describe-mount-targets --mount-target-id mt", "describe-mount-target-security-groups --mount-target-id mt",
	"modify-mount-target-security-groups --mount-target-id mt --security-groups group", "delete-mount-target --mount-target-id mt",
}

const mountPolicy = `{"Statement":{"Effect":"Allow","Principal":"*","Action":"elasticfilesystem:*"}}`

// refusedEFS are calls with the code that they are answered with. none is the id of no file system.
var refusedEFS = map[string]string{
	"create-replication-configuration --source-file-system-id fs --destinations Region=elsewhere-1": "BadRequest",
	"delete-replication-configuration --source-file-system-id fs":                                   "ReplicationNotFound",
	"put-backup-policy --file-system-id fs --backup-policy Status=ENABLED":                          "ValidationException",
	"put-account-preferences --resource-id-type SHORT_ID":                                           "BadRequest",
	"update-file-system --file-system-id none --throughput-mode elastic":                            "FileSystemNotFound",
	"tag-resource --resource-id fsap-0123456789abcdef0 --tags Key=a,Value=b":                        "AccessPointNotFound",
	"put-file-system-policy --file-system-id fs --policy {}":                                        "InvalidPolicyException",
	"describe-mount-targets --mount-target-id fsmt-0123456789abcdef0":                               "MountTargetNotFound",
	"create-access-point --client-token x --file-system-id fs --posix-user Uid=1,Gid=1":             "AccessPointAlreadyExists",
	"create-mount-target --file-system-id fs --subnet-id subnet-0123456789abcdef0":                  "SubnetNotFound",
	"create-file-system --creation-token z --availability-zone-name a":                              "UnsupportedAvailabilityZone",
}

func TestAWSCLIOnAllOfEFS(t *testing.T) {
	if !insideNamespaces(t) { // mount targets keep addresses
		return
	}
	lo, err := netlink.LinkByName("lo")
	check(t, err)
	check(t, netlink.LinkSetUp(lo))
	a := start(t, testOptions(t.TempDir()))
	aws := newAWS(t, a, mayEverything)
	fs := a.create(t, "one")
	subnet, err := a.CreateSubnet(t.Context(), catalog.Subnet{Interface: "absent", Prefix: netip.MustParsePrefix("10.79.0.0/24")})
	check(t, err)
	group := a.openTo(t, "all", "10.0.0.0/8")
	var made struct{ AccessPointId, AccessPointArn, MountTargetId string }
	aws.do(t, &made, "efs", "create-access-point", "--file-system-id", fs, "--client-token", "x")
	aws.do(t, &made, "efs", "create-mount-target", "--file-system-id", fs, "--subnet-id", subnet.ID)
	ids := map[string]string{
		"fs": fs, "none": "fs-0123456789abcdef0", "ap": made.AccessPointId, "arn:ap": made.AccessPointArn, "mt": made.MountTargetId, "group": group,
	}
	words := func(call string) []string {
		args := append([]string{"efs"}, strings.Fields(call)...)
		for i, word := range args {
			if id := ids[word]; id != "" {
				args[i] = id
			}
		}
		return args
	}
	for call, code := range refusedEFS {
		aws.refused(t, code, words(call)...)
	}
	for _, call := range everyEFS {
		aws.do(t, nil, words(call)...)
	}
	var all struct {
		FileSystems []struct {
			ThroughputMode       string
			FileSystemProtection struct{ ReplicationOverwriteProtection string }
		}
		NextToken string
	}
	a.create(t, "two")
	aws.do(t, &all, "efs", "describe-file-systems", "--max-items", "1", "--page-size", "1")
	if len(all.FileSystems) != 1 || all.NextToken == "" {
		t.Errorf("one of two: %+v", all)
	}
	aws.do(t, &all, "efs", "describe-file-systems", "--file-system-id", fs)
	if f := all.FileSystems[0]; f.ThroughputMode != "elastic" || f.FileSystemProtection.ReplicationOverwriteProtection != "DISABLED" {
		t.Errorf("described: %+v", f)
	}
}

// The create command of the EFS guide, with every way to name a key, and the codes of keys that can't be used.
func TestAWSCLIOnFileSystemKeys(t *testing.T) {
	a := start(t, testOptions(t.TempDir()))
	aws := newAWS(t, a, mayEverything)
	var key struct{ KeyMetadata struct{ KeyId, Arn string } }
	aws.do(t, &key, "kms", "create-key")
	id, arn := key.KeyMetadata.KeyId, key.KeyMetadata.Arn
	aws.do(t, nil, "kms", "create-alias", "--alias-name", "alias/files", "--target-key-id", id)
	create := func(token, name string) []string {
		args := []string{"efs", "create-file-system", "--creation-token", token, "--performance-mode", "generalPurpose", "--encrypted"}
		if name != "" {
			args = append(args, "--kms-key-id", name)
		}
		return args
	}
	var made struct {
		FileSystemId, KmsKeyId string
		Encrypted              bool
	}
	for token, name := range map[string]string{
		"alias": "alias/files", "id": id, "arn": arn, "alias arn": strings.Replace(arn, "key/"+id, "alias/files", 1),
	} {
		aws.do(t, &made, create(token, name)...)
		if !made.Encrypted || made.KmsKeyId != arn {
			t.Errorf("under %s: %+v", name, made)
		}
	}
	aws.do(t, &made, create("managed", "")...)
	var managed struct {
		KeyMetadata struct{ Arn, KeyManager string }
	}
	aws.do(t, &managed, "kms", "describe-key", "--key-id", "alias/aws/elasticfilesystem")
	if made.KmsKeyId != managed.KeyMetadata.Arn || managed.KeyMetadata.KeyManager != "AWS" {
		t.Errorf("%+v, %+v", made, managed)
	}
	aws.refused(t, "NotFoundException", create("1", "alias/none")...)
	aws.refused(t, "ValidationException", create("2", "not a key")...)
	aws.do(t, nil, "kms", "disable-key", "--key-id", id)
	aws.refused(t, "DisabledException", create("3", id)...)
	aws.do(t, nil, "kms", "schedule-key-deletion", "--key-id", id, "--pending-window-in-days", "7")
	aws.refused(t, "KMSInvalidStateException", create("4", "alias/files")...)
	aws.refused(t, "AccessDeniedException", "kms", "disable-key", "--key-id", managed.KeyMetadata.Arn)
	if err := a.PutUserPolicy(t.Context(), "admin", "all", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["elasticfilesystem:*","kms:CreateKey"],"Resource":"*"}]}`); err != nil {
		t.Fatal(err)
	}
	aws.do(t, &key, "kms", "create-key")
	aws.refused(t, "AccessDeniedException", create("5", key.KeyMetadata.KeyId)...)
	aws.do(t, nil, create("6", "")...) // the managed key's policy lets all who may use EFS
}

func TestAWSCLIOnKMS(t *testing.T) {
	a := start(t, testOptions(t.TempDir()))
	aws := newAWS(t, a, mayEverything)
	var made struct {
		KeyMetadata struct{ KeyId, KeyState string }
	}
	aws.do(t, &made, "kms", "create-key", "--description", "first", "--tags", "TagKey=team,TagValue=blue")
	id := made.KeyMetadata.KeyId
	aws.do(t, nil, "kms", "create-alias", "--alias-name", "alias/one", "--target-key-id", id)
	var encrypted struct{ CiphertextBlob string }
	aws.do(t, &encrypted, "kms", "encrypt", "--key-id", "alias/one", "--plaintext", "fileb:///etc/hostname", "--encryption-context", "a=b")
	if encrypted.CiphertextBlob == "" {
		t.Error("no ciphertext")
	}
	aws.do(t, nil, "kms", "disable-key", "--key-id", id)
	aws.refused(t, "DisabledException", "kms", "generate-data-key", "--key-id", id, "--key-spec", "AES_256")
	aws.refused(t, "NotFoundException", "kms", "describe-key", "--key-id", "alias/two")
}
