package appliance

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// awsCLI runs the unmodified aws CLI against the front door.
type awsCLI struct {
	program string
	env     []string
	flags   []string
	shell   *awsShell // runs the calls; nil: each is a process
}

// awsShell is a process that has loaded the CLI's own code and runs call after call: to start the CLI takes most of
// a second of a processor, and to make its driver a quarter of one.
type awsShell struct {
	in  *json.Encoder
	out *json.Decoder
}

// awsLoop runs what bin/aws runs, for each line of its standard input, which is a list of arguments.
const awsLoop = `
import contextlib, io, json, sys
from awscli.clidriver import create_clidriver
answers = sys.stdout
driver = create_clidriver()
for line in sys.stdin:
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = driver.main(json.loads(line))
    json.dump({"Status": status, "Out": out.buffer.getvalue().decode()}, answers)
    answers.flush()
`

// newAWSShell returns nil where the CLI's code is not that of python.
func newAWSShell(t *testing.T, python string, env []string) *awsShell {
	t.Helper()
	if exec.Command(python, "-c", "import awscli.clidriver").Run() != nil {
		return nil
	}
	cmd := exec.Command(python, "-c", awsLoop)
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

// awsProgram is one of the CLIs that there are, and the Python that runs it.
type awsProgram struct{ path, python string }

// anyAWS is the CLI in the path, Debian's if there is no other.
func anyAWS(t *testing.T) awsProgram {
	t.Helper()
	path, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("the aws CLI is not installed: it runs in make test, which installs it")
	}
	if path == debiansAWS.path {
		return debiansAWS
	}
	return awsProgram{path, "python3"}
}

// debiansAWS is version 2.9 on Debian 12.
var debiansAWS = awsProgram{"/usr/bin/aws", "/usr/bin/python3"}

// newAWS makes a user with a policy, and gives a CLI its access key.
func newAWS(t *testing.T, a *running, document string) *awsCLI {
	t.Helper()
	return newAWSOf(t, a, anyAWS(t), document)
}

func newAWSOf(t *testing.T, a *running, program awsProgram, document string) *awsCLI {
	t.Helper()
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
		program: program.path,
		// The CLI keeps the credentials of roles at home, from one run to the next.
		env: append(os.Environ(), "HOME="+t.TempDir(), "AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+secret.Reveal(), "AWS_SESSION_TOKEN=",
			"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1", "AWS_PAGER="),
		flags: []string{"--endpoint-url", a.frontURL(), "--ca-bundle", a.dir.caFile(), "--region", a.o.Region, "--output", "json"},
	}
	c.shell = newAWSShell(t, program.python, c.env)
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
