package iam

import "time"

// secretChars is the length of a secret access key, as AWS has it.
const secretChars = 40

// Limits of sessions. They are AWS's, but for MaxSessionPolicyBytes, which AWS counts in characters.
const (
	MaxSessionPolicyBytes = 2048
	// MinSession and DefaultSession are those of all roles; a role says itself how long its sessions may
	// be, at most MaxRoleSession. The session of somebody who is in one already is at most MaxChained.
	MinSession     = 15 * time.Minute
	DefaultSession = time.Hour
	MaxRoleSession = 12 * time.Hour
	MaxChained     = time.Hour
	// DefaultUserSession and MaxUserSession are those of sessions of users.
	DefaultUserSession = 12 * time.Hour
	MaxUserSession     = 36 * time.Hour
	// maxTokenChars bounds a session token: one with the longest policy has some 6,000.
	maxTokenChars = 8 << 10
)

// Limits of signatures. maxSkew and maxExpirySeconds are AWS's.
const (
	maxSkew          = 5 * time.Minute
	maxExpirySeconds = 7 * 24 * 3600
	maxSignedHeaders = 64
)
