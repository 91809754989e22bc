package appliance

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/efs"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/vishvananda/netlink"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// awsStep is one call of the CLI, in which $NAME stands for what an earlier one answered.
type awsStep struct {
	call string
	// code is the error that the CLI has to show, "" for success.
	code string
	// take has NAME=MEMBER for what later calls need of the answer; NAME>MEMBER for bytes that go to a file.
	take string
	// core steps are the ones that Debian's CLI takes whatever the time.
	core bool
	// newer steps are about what Debian's CLI does not know.
	newer bool
}

const mountPolicy = `{"Statement":{"Effect":"Allow","Principal":"*","Action":"elasticfilesystem:*"}}`

// everyOperation has each operation of EFS, KMS and STS, in an order in which they succeed. A call's words are
// divided by single spaces.
var everyOperation = []awsStep{
	{call: "sts get-caller-identity", take: "me=Arn", core: true},
	{call: "sts get-session-token --duration-seconds 900"},
	{call: "sts assume-role --role-arn arn:aws:iam::000000000000:role/none --role-session-name night", code: "AccessDenied", core: true},
	{call: "sts assume-role --role-arn arn:aws:iam::000000000000:role/reader --role-session-name night", take: "session=AssumedRoleUser.Arn", core: true},
	{call: "sts get-federation-token --name bob", code: "AccessDenied"},

	{call: "efs create-file-system --creation-token one --performance-mode generalPurpose --encrypted --tags Key=Name,Value=first", take: "fs=FileSystemId", core: true},
	{call: "efs create-file-system --creation-token one", code: "FileSystemAlreadyExists", core: true},
	{call: "efs create-file-system --creation-token z --availability-zone-name a", code: "UnsupportedAvailabilityZone"},
	{call: "efs create-file-system --creation-token two", take: "other=FileSystemId", core: true},
	{call: "efs describe-file-systems --max-items 1 --page-size 1", take: "next=NextToken", core: true},
	{call: "efs describe-file-systems --starting-token $next", take: "last=FileSystems.0.FileSystemId", core: true},
	{call: "efs describe-file-systems --file-system-id $fs", take: "name=FileSystems.0.Name", core: true},
	{call: "efs describe-file-systems --file-system-id fs-0123456789abcdef0", code: "FileSystemNotFound", core: true},
	{call: "efs update-file-system --file-system-id $fs --throughput-mode elastic"},
	{call: "efs update-file-system --file-system-id fs-0123456789abcdef0 --throughput-mode elastic", code: "FileSystemNotFound"},
	{call: "efs update-file-system-protection --file-system-id $fs --replication-overwrite-protection DISABLED", newer: true},
	{call: "efs describe-file-system-policy --file-system-id $fs", code: "PolicyNotFound", core: true},
	{call: "efs put-file-system-policy --file-system-id $fs --policy {}", code: "InvalidPolicyException", core: true},
	{call: "efs put-file-system-policy --file-system-id $fs --policy " + mountPolicy, core: true},
	{call: "efs describe-file-system-policy --file-system-id $fs", core: true},
	{call: "efs delete-file-system-policy --file-system-id $fs"},
	{call: "efs put-lifecycle-configuration --file-system-id $fs --lifecycle-policies TransitionToIA=AFTER_30_DAYS"},
	{call: "efs describe-lifecycle-configuration --file-system-id $fs"},
	{call: "efs put-backup-policy --file-system-id $fs --backup-policy Status=ENABLED", code: "ValidationException"},
	{call: "efs put-backup-policy --file-system-id $fs --backup-policy Status=DISABLED"},
	{call: "efs describe-backup-policy --file-system-id $fs"},
	{call: "efs describe-replication-configurations"},
	{call: "efs create-replication-configuration --source-file-system-id $fs --destinations Region=elsewhere-1", code: "BadRequest"},
	{call: "efs delete-replication-configuration --source-file-system-id $fs", code: "ReplicationNotFound"},
	{call: "efs describe-account-preferences"},
	{call: "efs put-account-preferences --resource-id-type LONG_ID"},
	{call: "efs put-account-preferences --resource-id-type SHORT_ID", code: "BadRequest"},
	{call: "efs create-access-point --client-token x --file-system-id $fs --posix-user Uid=1,Gid=1", take: "ap=AccessPointId arn=AccessPointArn", core: true},
	{call: "efs create-access-point --client-token x --file-system-id $fs", code: "AccessPointAlreadyExists"},
	{call: "efs describe-access-points --file-system-id $fs", core: true},
	{call: "efs tag-resource --resource-id $ap --tags Key=a,Value=b"},
	{call: "efs tag-resource --resource-id fsap-0123456789abcdef0 --tags Key=a,Value=b", code: "AccessPointNotFound"},
	{call: "efs list-tags-for-resource --resource-id $arn", core: true},
	{call: "efs untag-resource --resource-id $ap --tag-keys a"},
	{call: "efs create-tags --file-system-id $fs --tags Key=a,Value=b"},
	{call: "efs describe-tags --file-system-id $fs"},
	{call: "efs delete-tags --file-system-id $fs --tag-keys a"},
	{call: "efs delete-access-point --access-point-id $ap"},
	{call: "efs create-mount-target --file-system-id $fs --subnet-id subnet-0123456789abcdef0", code: "SubnetNotFound"},
	{call: "efs create-mount-target --file-system-id $fs --subnet-id $subnet", take: "mt=MountTargetId"},
	{call: "efs describe-mount-targets --mount-target-id $mt"},
	{call: "efs describe-mount-targets --mount-target-id fsmt-0123456789abcdef0", code: "MountTargetNotFound"},
	{call: "efs modify-mount-target-security-groups --mount-target-id $mt --security-groups $group"},
	{call: "efs describe-mount-target-security-groups --mount-target-id $mt"},
	{call: "efs delete-file-system --file-system-id $fs", code: "FileSystemInUse"},
	{call: "efs delete-mount-target --mount-target-id $mt"},
	{call: "efs delete-file-system --file-system-id $other", core: true},

	{call: "kms create-key --description first --tags TagKey=team,TagValue=blue", take: "key=KeyMetadata.KeyId", core: true},
	{call: "kms create-key --key-spec RSA_2048 --key-usage SIGN_VERIFY", code: "UnsupportedOperationException"},
	{call: "kms describe-key --key-id $key", core: true},
	{call: "kms describe-key --key-id alias/none", code: "NotFoundException", core: true},
	{call: "kms list-keys --max-items 1 --page-size 1"},
	{call: "kms update-key-description --key-id $key --description second"},
	{call: "kms create-alias --alias-name alias/one --target-key-id $key", core: true},
	{call: "kms create-key", take: "second=KeyMetadata.KeyId"},
	{call: "kms update-alias --alias-name alias/one --target-key-id $second"},
	{call: "kms list-aliases"},
	{call: "kms delete-alias --alias-name alias/one"},
	{call: "kms tag-resource --key-id $key --tags TagKey=a,TagValue=b"},
	{call: "kms list-resource-tags --key-id $key"},
	{call: "kms untag-resource --key-id $key --tag-keys a"},
	{call: "kms get-key-policy --key-id $key --policy-name default", take: "policy=Policy"},
	{call: "kms put-key-policy --key-id $key --policy-name default --policy $policy"},
	{call: "kms put-key-policy --key-id $key --policy-name default --policy {}", code: "MalformedPolicyDocumentException"},
	{call: "kms list-key-policies --key-id $key"},
	{call: "kms encrypt --key-id $key --plaintext fileb:///etc/hostname --encryption-context a=b", take: "blob>CiphertextBlob", core: true},
	{call: "kms decrypt --ciphertext-blob $blob --encryption-context a=b", core: true},
	{call: "kms decrypt --ciphertext-blob $blob --encryption-context a=c", code: "InvalidCiphertextException", core: true},
	{call: "kms decrypt --ciphertext-blob $blob --encryption-context a=b --key-id $second", code: "IncorrectKeyException"},
	{call: "kms re-encrypt --ciphertext-blob $blob --source-encryption-context a=b --destination-key-id $second"},
	{call: "kms generate-data-key --key-id $key --key-spec AES_256"},
	{call: "kms generate-data-key-without-plaintext --key-id $key --number-of-bytes 64"},
	{call: "kms generate-random --number-of-bytes 16"},
	{call: "kms enable-key-rotation --key-id $key --rotation-period-in-days 90", newer: true},
	{call: "kms enable-key-rotation --key-id $key"},
	{call: "kms get-key-rotation-status --key-id $key"},
	{call: "kms rotate-key-on-demand --key-id $key", newer: true},
	{call: "kms list-key-rotations --key-id $key", newer: true},
	{call: "kms disable-key-rotation --key-id $key"},
	{call: "kms create-grant --key-id $key --grantee-principal $me --operations Decrypt", take: "grant=GrantId"},
	{call: "kms list-grants --key-id $key"},
	{call: "kms revoke-grant --key-id $key --grant-id $grant"},
	{call: "kms create-grant --key-id $key --grantee-principal $me --retiring-principal $me --operations Decrypt", take: "token=GrantToken"},
	{call: "kms list-retirable-grants --retiring-principal $me"},
	{call: "kms retire-grant --grant-token $token"},
	{call: "kms create-key --origin EXTERNAL", take: "mine=KeyMetadata.KeyId"},
	{call: "kms get-parameters-for-import --key-id $mine --wrapping-algorithm RSAES_OAEP_SHA_256 --wrapping-key-spec RSA_2048",
		take: "public>PublicKey import>ImportToken"},
	{call: "kms import-key-material --key-id $mine --import-token $import --encrypted-key-material $material --expiration-model KEY_MATERIAL_DOES_NOT_EXPIRE"},
	{call: "kms delete-imported-key-material --key-id $mine"},
	{call: "kms disable-key --key-id $key", core: true},
	{call: "kms encrypt --key-id $key --plaintext fileb:///etc/hostname", code: "DisabledException", core: true},
	{call: "kms enable-key --key-id $key"},
	{call: "kms schedule-key-deletion --key-id $key --pending-window-in-days 7", core: true},
	{call: "kms encrypt --key-id $key --plaintext fileb:///etc/hostname", code: "KMSInvalidStateException", core: true},
	{call: "kms cancel-key-deletion --key-id $key"},
	{call: "kms sign --key-id $key --message fileb:///etc/hostname --signing-algorithm RSASSA_PSS_SHA_256", code: "UnsupportedOperationException"},
}

// awsRun goes through steps with what they have answered so far.
type awsRun struct {
	cli  *awsCLI
	dir  string
	have map[string]string
}

func (r *awsRun) step(t *testing.T, s *awsStep) {
	t.Helper()
	if strings.Contains(s.call, "$material") {
		r.wrapMaterial(t)
	}
	words := strings.Split(s.call, " ")
	for i, word := range words {
		if name, isName := strings.CutPrefix(word, "$"); isName {
			words[i] = r.have[name]
		}
	}
	if s.code != "" {
		r.cli.refused(t, s.code, words...)
		return
	}
	var answer any
	var into any
	if s.take != "" {
		into = &answer
	}
	r.cli.do(t, into, words...)
	for _, take := range strings.Fields(s.take) {
		if name, member, isBytes := strings.Cut(take, ">"); isBytes {
			r.have[name] = "fileb://" + r.file(t, name, bytesAt(t, answer, member))
			continue
		}
		name, member, _ := strings.Cut(take, "=")
		r.have[name] = textAt(t, answer, member)
	}
}

func (r *awsRun) file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(r.dir, name)
	check(t, os.WriteFile(path, content, 0o600))
	return path
}

// wrapMaterial encrypts new key material for the public key that was given.
func (r *awsRun) wrapMaterial(t *testing.T) {
	t.Helper()
	der, err := os.ReadFile(filepath.Join(r.dir, "public"))
	check(t, err)
	key, err := x509.ParsePKIXPublicKey(der)
	check(t, err)
	material := make([]byte, 32)
	rand.Read(material)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key.(*rsa.PublicKey), material, nil)
	check(t, err)
	r.have["material"] = "fileb://" + r.file(t, "material", wrapped)
}

// textAt is the string at a path such as FileSystems.0.Name.
func textAt(t *testing.T, answer any, path string) string {
	t.Helper()
	for part := range strings.SplitSeq(path, ".") {
		if list, isList := answer.([]any); isList && part == "0" && len(list) > 0 {
			answer = list[0]
			continue
		}
		members, _ := answer.(map[string]any)
		answer = members[part]
	}
	text, ok := answer.(string)
	if !ok || text == "" {
		shown, _ := json.Marshal(answer)
		t.Fatalf("no %s in the answer: %s", path, shown)
	}
	return text
}

func bytesAt(t *testing.T, answer any, path string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(textAt(t, answer, path))
	check(t, err)
	return b
}

// operationsOf are those that the SDK has for a service.
func operationsOf[T any]() []string {
	var names []string
	kind := reflect.TypeFor[T]()
	for i := range kind.NumMethod() {
		if name := kind.Method(i).Name; name != "Options" {
			names = append(names, name)
		}
	}
	return names
}

// unservedKMS are operations of KMS that UnsupportedOperationException or UnknownOperationException answers.
var unservedKMS = []string{
	"ConnectCustomKeyStore", "CreateCustomKeyStore", "Decapsulate", "Encapsulate", "DeleteCustomKeyStore", "DeriveSharedSecret", "DescribeCustomKeyStores",
	"DisconnectCustomKeyStore", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateMac", "GetKeyLastUsage", "GetPublicKey",
	"ReplicateKey", "Sign", "UpdateCustomKeyStore", "UpdatePrimaryRegion", "Verify", "VerifyMac",
}

// TestAWSCLIOnEveryOperation goes through all operations with the CLI in the path, and through the core of them with
// Debian's, or all with NFSEAL_LONG=1.
func TestAWSCLIOnEveryOperation(t *testing.T) {
	if !insideNamespaces(t) { // mount targets keep addresses
		return
	}
	lo, err := netlink.LinkByName("lo")
	check(t, err)
	check(t, netlink.LinkSetUp(lo))
	first := anyAWS(t)
	t.Run("in the path", func(t *testing.T) { runEveryOperation(t, first, true) })
	if first == debiansAWS {
		return
	}
	t.Run("Debian's", func(t *testing.T) {
		if _, err := os.Stat(debiansAWS.path); err != nil {
			t.Skip("needs Debian's awscli: runs in make test, which installs it")
		}
		runEveryOperation(t, debiansAWS, os.Getenv("NFSEAL_LONG") == "1")
	})
}

func runEveryOperation(t *testing.T, program awsProgram, all bool) {
	a := start(t, testOptions(t.TempDir()))
	aws := newAWSOf(t, a, program, mayEverything)
	a.newRole(t, "reader", mayMount)
	run := &awsRun{aws, t.TempDir(), map[string]string{"group": a.openTo(t, "all", "10.0.0.0/8")}}
	subnet, err := a.CreateSubnet(t.Context(), catalog.Subnet{Interface: "absent", Prefix: netip.MustParsePrefix("10.79.0.0/24")})
	check(t, err)
	run.have["subnet"] = subnet.ID
	for i := range everyOperation {
		if s := &everyOperation[i]; (all || s.core) && !(s.newer && program == debiansAWS) {
			run.step(t, s)
		}
	}
	if run.have["name"] != "first" || run.have["me"] != "arn:aws:iam::000000000000:user/admin" || run.have["last"] == "" {
		t.Errorf("%v", run.have)
	}
	stranger := aws.with("AWS_SECRET_ACCESS_KEY=another")
	stranger.refused(t, "InvalidSignatureException", "efs", "describe-file-systems")
	if !all || program == debiansAWS {
		return
	}
	for _, name := range slices.Concat(operationsOf[*efs.Client](), operationsOf[*kms.Client]()) {
		if !slices.Contains(unservedKMS, name) && len(a.lookup(t, name)) == 0 {
			t.Errorf("%s was not called", name)
		}
	}
}
