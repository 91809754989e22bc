package api

import (
	"regexp"
	"strings"
)

// idPattern is EFS's of ids. Ours have 17 digits; another number is the id of what does not exist.
var idPattern = regexp.MustCompile(`^[a-z]+-[0-9a-f]{8,40}$`)

// wellFormed says whether id has the shape of one of the kind: fs, fsap, fsmt, subnet, sg or sgr.
func wellFormed(kind, id string) bool {
	return strings.HasPrefix(id, kind+"-") && idPattern.MatchString(id)
}

func isFileSystemID(id string) bool { return wellFormed("fs", id) }
