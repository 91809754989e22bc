package iam

import "time"

const (
	// proofLife is how long a proof is good (X-Amz-Expires).
	proofLife = 24 * time.Hour
	// clockSkew is how far the signer's clock may be ahead (AWS's five minutes).
	clockSkew = 5 * time.Minute
	// secretChars is the length of a secret access key, as AWS has it.
	secretChars = 40
)
