package api

import (
	"net/http"
	"regexp"

	"github.com/nfseal/nfseal/appliance/kms"
)

// fileSystemContext is what a file system's data keys are bound to.
func fileSystemContext(id string) map[string]string {
	return map[string]string{"aws:elasticfilesystem:filesystem:id": id}
}

// neededOfKey is what a caller needs of a key to make a file system under it.
var neededOfKey = []string{"DescribeKey", "GenerateDataKeyWithoutPlaintext", "Decrypt", "CreateGrant"}

// keyForFileSystem finds the key that the new file system id is to be under, "" for the one that is managed
// for EFS, and checks that it can be used and that the caller may.
func (s *Server) keyForFileSystem(r *http.Request, name, id string) (kms.Key, error) {
	key, err := s.findKey(r, name)
	if err != nil {
		return kms.Key{}, err
	}
	if err := key.Usable(); err != nil {
		return kms.Key{}, err
	}
	via := map[string][]string{
		"kms:ViaService": {s.o.Keys.RegionalPrincipal(kms.EFS)}, "kms:GrantIsForAWSResource": {"true"},
		"kms:GranteePrincipal": {s.o.Keys.RegionalPrincipal(kms.EFS)},
	}
	for _, action := range neededOfKey {
		if _, err := s.authorizeKey(r, action, &key, fileSystemContext(id), via); err != nil {
			return kms.Key{}, err
		}
	}
	return key, nil
}

// keyNamePattern is that of KmsKeyId (EFS API, CreateFileSystem).
var keyNamePattern = regexp.MustCompile(`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}|alias/[a-zA-Z0-9/_-]+|` +
	`arn:aws[-a-z]*:kms:[a-z0-9-]+:\d{12}:(key/([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})|alias/[a-zA-Z0-9/_-]+))$`)

// checkKeyName checks the shape of a KmsKeyId that was given.
func checkKeyName(name string) error {
	if name != "" && (len(name) > maxKeyNameChars || !keyNamePattern.MatchString(name)) {
		return invalid("1 validation error detected: Value '" + clip(name) + "' at 'kmsKeyId' failed to satisfy constraint: " +
			"Member must be a key id, an alias, or the ARN of either")
	}
	return nil
}

func (s *Server) findKey(r *http.Request, name string) (kms.Key, error) {
	managed := kms.ManagedAlias(kms.EFS)
	if name == "" || name == managed || name == s.o.Keys.AliasARN(managed) {
		return s.o.Keys.Managed(r.Context(), kms.EFS)
	}
	return s.o.Keys.Find(r.Context(), name)
}
