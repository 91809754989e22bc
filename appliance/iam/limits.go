package iam

import "time"

// secretChars is the length of a secret access key, as AWS has it.
const secretChars = 40

// Limits of signatures. maxSkew and maxExpirySeconds are AWS's.
const (
	maxSkew          = 5 * time.Minute
	maxExpirySeconds = 7 * 24 * 3600
	maxSignedHeaders = 64
)
