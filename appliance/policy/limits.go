package policy

const (
	// MaxDocumentChars is the longest document: what EFS takes for a file system policy.
	MaxDocumentChars = 20000
	// maxDepth of a document's JSON: a document needs five levels.
	maxDepth = 16
	// maxNumberChars of a number in a condition or a request.
	maxNumberChars = 64
)
