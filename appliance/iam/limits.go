package iam

// secretChars is the length of a secret access key, as AWS has it.
const secretChars = 40
