package appliance

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/efs"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/go-jose/go-jose/v4"

	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/oidc/oidctest"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// secrets are what nobody may find where it does not belong, by what they are.
type secrets map[string][]byte

// search fails the test for each secret that is in text: as it is, and as hexadecimal digits or base64 show it, of
// whose last group what may stand beside it is left out.
func (s secrets) search(t *testing.T, where string, text []byte) {
	t.Helper()
	for what, secret := range s {
		coded := base64.StdEncoding.EncodeToString(secret)
		forms := map[string][]byte{
			"itself": secret, "in hexadecimal": []byte(hex.EncodeToString(secret)), "as JSON has it": jsonText(secret),
			"in base64": []byte(coded[:len(secret)/3*4]), "in base64 for URLs": []byte(base64.RawURLEncoding.EncodeToString(secret)[:len(secret)/3*4]),
			"as numbers": bytes.Trim(fmt.Append(nil, secret), "[]"),
		}
		for form, bytesOf := range forms {
			if bytes.Contains(text, bytesOf) {
				t.Errorf("%s is in %s, %s", what, where, form)
			}
		}
	}
}

func jsonText(secret []byte) []byte {
	text, _ := json.Marshal(string(secret)) // which can't fail
	return bytes.Trim(text, `"`)
}

// sdk is the SDK's configuration with an access key.
func (r *running) sdk(keyID, secret, token string) aws.Config {
	return aws.Config{
		Region: r.o.Region, BaseEndpoint: aws.String(r.frontURL()), RetryMaxAttempts: 1,
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.authority.Pool()}}},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret, SessionToken: token}, nil
		}),
	}
}

// TestSecretsStayWhereTheyBelong goes through what there is to do with secrets, failures included, and then looks for
// them in the log, the audit log, errors, metrics, what status and compliance tell, and every file but the root key's.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(dir)
	o.AuditTo.File = filepath.Join(dir, "forwarded") // which is searched with the directory
	signer := oidctest.NewSigner(t, jose.ES256, "one")
	r := start(t, knowing(t, o, signer))
	hidden := secrets{}
	root, err := os.ReadFile(filepath.Join(dir, "root.key"))
	check(t, err)
	hidden["the root key's file"] = bytes.TrimSpace(root)
	var told bytes.Buffer // errors
	tell := func(err error) {
		t.Helper()
		if err == nil {
			t.Error("what must fail succeeded")
		}
		fmt.Fprintf(&told, "%v %+v %#v\n", err, err, err)
	}

	keyID, secret := r.newUser(t, "bob")
	hidden["a secret access key"] = []byte(secret.Reveal())
	check(t, r.PutUserPolicy(t.Context(), "bob", "all", mayEverything))
	role := r.newRole(t, "reader", mayEverything)
	session, token := r.assume(t, role, mayMount)
	hidden["the secret of a session"], hidden["a session token"] = []byte(session.Secret.Reveal()), []byte(token)
	stranger, err := r.Caller(t.Context(), keyID, "")
	check(t, err)
	fmt.Fprintf(&told, "%v %+v %#v %v\n", stranger, stranger, *stranger, session)

	client, ctx := awskms.NewFromConfig(r.sdk(keyID, secret.Reveal(), "")), t.Context()
	made, err := client.CreateKey(ctx, nil)
	check(t, err)
	hidden["a plaintext"] = []byte("what a caller of KMS has encrypted")
	blob, err := client.Encrypt(ctx, &awskms.EncryptInput{KeyId: made.KeyMetadata.KeyId, Plaintext: hidden["a plaintext"]})
	check(t, err)
	data, err := client.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: made.KeyMetadata.KeyId, KeySpec: "AES_256"})
	check(t, err)
	hidden["a data key of a caller"] = data.Plaintext
	_, err = client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: blob.CiphertextBlob, EncryptionContext: map[string]string{"a": "b"}})
	tell(err)
	_, err = client.Encrypt(ctx, &awskms.EncryptInput{KeyId: aws.String("alias/none"), Plaintext: hidden["a plaintext"]})
	tell(err)
	inSession := r.sdk(session.KeyID, session.Secret.Reveal(), token)
	_, err = efs.NewFromConfig(inSession).DescribeFileSystems(ctx, nil)
	tell(err) // the session's policy does not let it
	_, err = efs.NewFromConfig(r.sdk(session.KeyID, session.Secret.Reveal(), token[1:])).DescribeFileSystems(ctx, nil)
	tell(err)

	r.newBotRole(t, "bots")
	for what, subject := range map[string]string{"a web identity token": "bot", "one that may not": "eve"} {
		hidden[what] = []byte(botToken(t, signer, subject))
	}
	hidden["one that nobody believes"] = []byte(botToken(t, oidctest.NewSigner(t, jose.ES256, "one"), "bot"))
	for what, wanted := range map[string]bool{"a web identity token": true, "one that may not": false, "one that nobody believes": false} {
		unsigned := r.sdk("", "", "")
		unsigned.Credentials = aws.AnonymousCredentials{}
		_, err := awssts.NewFromConfig(unsigned).AssumeRoleWithWebIdentity(ctx, &awssts.AssumeRoleWithWebIdentityInput{
			RoleArn: aws.String(iam.RoleARN("bots")), RoleSessionName: aws.String("night"), WebIdentityToken: aws.String(string(hidden[what])),
		})
		if wanted {
			check(t, err)
		} else {
			tell(err)
		}
	}

	id, key := r.createUnder(t, "a")
	for what, from := range map[string]interface{ Use(func([]byte)) error }{
		"a file system's data key": r.units[0].served[id].keys.data, "its metadata key": r.units[0].served[id].keys.metadata,
	} {
		check(t, from.Use(func(key []byte) { hidden[what] = bytes.Clone(key) }))
	}
	c, top := r.mount(t, id)
	hidden["a file's contents"], hidden["a file's name"] = []byte("what somebody has written to a file"), []byte("the name that somebody gave it")
	write(t, c, top, string(hidden["a file's name"]), string(hidden["a file's contents"]))
	_, err = c.ReadFile(ctx, top, string(hidden["a file's name"])+"!")
	tell(err)
	wrong := clientCertificate(t, &certificateTemplate{fileSystem: id, sign: r.signer(id, keyID, nil), secret: iam.NewSecret("x")})
	_, err = nfsclient.New(ctx, r.dialWith(t, id, wrong), nfsclient.Options{})
	tell(err)
	_, err = r.dialInSession(t, id, session, token)
	check(t, err)
	r.changeKey(t, key, (*kms.Key).Disable)
	r.awaitSealed(t, id, true)
	_, err = c.ReadFile(ctx, top, "x")
	tell(err)
	r.changeKey(t, key, (*kms.Key).Enable)
	r.awaitSealed(t, id, false)

	hidden.search(t, "errors and what formatters print", told.Bytes())
	hidden.search(t, "the metrics", r.metricsText(t))
	hidden.search(t, "what status and compliance tell", r.toldText(t))
	r.stop(t)
	for _, entry := range r.logs.All() {
		text, err := json.Marshal(entry.ContextMap())
		check(t, err)
		hidden.search(t, "the log", fmt.Appendf(text, "%s %v", entry.Message, entry.ContextMap()))
	}
	if info, err := os.Stat(o.AuditTo.File); err != nil || info.Size() == 0 {
		t.Errorf("nothing was forwarded: %v", err)
	}
	hidden.searchFiles(t, dir)
}

func (r *running) metricsText(t *testing.T) []byte {
	t.Helper()
	var text bytes.Buffer
	families, err := r.Metrics().Gather()
	check(t, err)
	for _, f := range families {
		fmt.Fprintln(&text, f.String())
	}
	return text.Bytes()
}

func (r *running) toldText(t *testing.T) []byte {
	t.Helper()
	status, err := r.Status(t.Context())
	check(t, err)
	findings, err := r.Compliance(t.Context())
	check(t, err)
	text, err := json.Marshal([]any{status, findings})
	check(t, err)
	return text
}

// searchFiles looks into all files of a data directory, the audit log and the volume among them. The file of the
// root key may hold that and nothing else.
func (s secrets) searchFiles(t *testing.T, dir string) {
	t.Helper()
	files := 0
	check(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == "root.key" {
			return err
		}
		text, err := os.ReadFile(path)
		s.search(t, e.Name(), text)
		files++
		return err
	}))
	if files < 10 {
		t.Errorf("%d files were searched", files)
	}
}
