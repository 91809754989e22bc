// Package trust holds the roots of trust: what keeps the root key, 32 random bytes, from whoever has the
// disk. A [Root] wraps and unwraps it; which one there is, the operator says ([Options]).
//
//	file        a key file on other storage
//	passphrase  argon2id of what somebody knows, or what systemd hands over as a credential
//	tpm         a TPM 2.0, while the machine was started as it was
//	vault       a key in the transit engine of HashiCorp Vault or OpenBao
//	pkcs11      a key in a PKCS#11 token, in builds with the tag pkcs11
//	recovery    a key on paper, which stands in for one of the others
//
// # What is wrapped
//
// A root makes a key of its own for each thing that it wraps, and with it AES-256-GCM seals the secret,
// bound to additional data. The wrapped form is a JSON object, which holds all that the root needs besides
// itself and nothing that is secret without it:
//
//	file        salt, sealed                             key: HKDF-SHA-256 of the file's 32 bytes and the salt
//	recovery    salt, sealed                             key: the same of the recovery key
//	passphrase  salt, passes, memoryKiB, lanes, sealed   key: argon2id (RFC 9106) of the passphrase
//	tpm         pcrs, parent, public, private, sealed    key: 32 random bytes, sealed by the TPM
//	vault       ciphertext, sealed                       key: 32 random bytes, encrypted by Vault
//	pkcs11      iv, key, sealed                          key: 32 random bytes, encrypted by the token (AES-256-GCM, same additional data)
//
// sealed is a random nonce of 12 bytes, the ciphertext, and a tag of 16 bytes. The additional data is
// "nfseal root of trust v1", NUL, the kind, NUL, and what the caller gives.
//
// # TPM
//
// The random bytes are a sealed object below the storage key of the TCG's ECC template, in the owner
// hierarchy, whose password is empty. Its policy is PolicyPCR over the SHA-256 bank; it has no password.
// What goes over the bus is encrypted by sessions that are salted with the storage key, whose name is kept:
// who listens learns nothing, and who answers in the TPM's place is found out.
//
// # Key file
//
// 32 raw bytes, or 64 hexadecimal digits and an optional line end; readable by its owner alone (mode 0600
// or 0400), or it is refused. In a data directory of format 1 its bytes are the root key itself
// ([ReadKeyFile]), and nothing is wrapped.
package trust
