// Package kms is the root key and what is wrapped under it. The root key is 256 random bits, which a root
// of trust keeps (package trust); data keys, and small secrets of the daemon such as the key of its
// certificate authority, are stored only wrapped under it. Every wrap and unwrap is an audit record,
// written before the caller has the result: when it can't be written, the operation fails.
//
// # Root key
//
// Two keys are derived from it by HKDF-SHA-256: the wrapping key, and the key's name (KeyID), which says
// nothing about the key and is kept with what was wrapped, so that a wrong root key is recognised before
// anything is touched.
//
// # Blob
//
// AES-256-GCM with a random nonce. Numbers are big-endian.
//
//	offset bytes
//	     0     4  "NSKW"
//	     4     1  format version, 1
//	     5     1  kind: 1 data key, 2 secret
//	     6     2  zero
//	     8    16  key id
//	    24     4  key version, 1
//	    28    12  nonce
//	    40     n  ciphertext
//	  40+n    16  tag
//
// The additional data is bytes 0 to 27 followed by the canonical encoding of the encryption context
// (keyring.Context): a blob opens only under the context that it was made for.
//
// A key may wrap 2^32 blobs before random nonces become a risk (NIST SP 800-38D §8.3); an appliance
// wraps a few for each file system it ever creates.
//
// # Keys of the KMS API
//
// [Keys] are symmetric keys in the catalog's store, one record each, changed by compare-and-swap. A key
// has versions of 32 random bytes, each sealed as a secret under the root key, for the key's id and the
// version's number: a record that is moved or reordered opens nothing. The last version encrypts, all
// decrypt. A key whose deletion is due is gone from every answer at once, and its record from the store
// when it is next asked for. A ciphertext:
//
//	offset bytes
//	     0     4  "NSKC"
//	     4     1  format version, 1
//	     5     3  zero
//	     8    16  key id, a UUID
//	    24     4  version of the key, from 1
//	    28    16  salt
//	    44    12  nonce
//	    56     n  ciphertext
//	  56+n    16  tag
//
// Each message has an AES-256-GCM key of its own, HKDF-SHA-256 of the version's material and the salt.
// The additional data is bytes 0 to 43 followed by the canonical encoding of the encryption context.
// Material is unsealed for each use and wiped after it: a disabled key has none in memory.
//
// # Imported material
//
// An external key has one version, whose material comes from outside, encrypted under an RSA key that is made for
// it ([Keys.ParametersForImport]). That key is kept nowhere but in the import token, sealed under the root key for
// the id of the KMS key. Material that is deleted, or whose time is over, leaves its digest, so that no
// other takes its place. Records of external keys have format 2, which builds without imports refuse.
//
// # Who may use a key
//
// [Keys.Authorize] asks the key's policy, the policies of the caller if the key's lets them speak, and the
// key's grants, at each use. A grant only allows: what a policy denies stays denied. A [Client] is a service
// of the appliance that uses keys for itself, in the name of its service principal, which only grants and
// key policies can let. The key that is managed for a service comes into being with its alias
// alias/aws/SERVICE, in one transaction, when it is first asked for, and can't be changed.
//
// When the deletion of a key is due, [KeysOptions].Destroying ends what others keep of it, then its grants
// go, and then record and aliases in one transaction: until that is done each step comes again.
//
// # Memory
//
// The root key's bytes are wiped after its key schedules were made. The schedules are Go memory of
// the crypto package and last as long as the process, which is neither dumpable nor leaves a core.
package kms
