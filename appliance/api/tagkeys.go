package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strings"
)

// The condition keys of tags (IAM User Guide, "AWS global condition context keys").
const (
	keyRequestTag  = "aws:RequestTag/"
	keyResourceTag = "aws:ResourceTag/"
	keyTagKeys     = "aws:TagKeys"
)

// taggedBy says how the actions that are about tags name those in their request. Of every other action nothing in a
// request is a tag, whatever it looks like.
var taggedBy = map[string]func(r *http.Request, body []byte, tag func(key string, value *string)){
	"elasticfilesystem:CreateFileSystem":  efsTagsIn,
	"elasticfilesystem:CreateAccessPoint": efsTagsIn,
	"elasticfilesystem:TagResource":       efsTagsIn,
	"elasticfilesystem:CreateTags":        efsTagsIn,
	"elasticfilesystem:DeleteTags":        tagKeysIn,
	"elasticfilesystem:UntagResource": func(r *http.Request, _ []byte, tag func(string, *string)) {
		for _, key := range r.URL.Query()["tagKeys"] {
			tag(key, nil)
		}
	},
	"kms:CreateKey":     kmsTagsIn,
	"kms:TagResource":   kmsTagsIn,
	"kms:UntagResource": tagKeysIn,
}

// These read what the operations read with the same types. What can't be read they refuse, whatever is found here.
func efsTagsIn(_ *http.Request, body []byte, tag func(string, *string)) {
	var request TagsRequest
	_ = json.Unmarshal(body, &request)
	for i := range request.Tags {
		tag(request.Tags[i].Key, &request.Tags[i].Value)
	}
}

func kmsTagsIn(_ *http.Request, body []byte, tag func(string, *string)) {
	var request struct{ Tags []KMSTag }
	_ = json.Unmarshal(body, &request)
	for i := range request.Tags {
		tag(request.Tags[i].TagKey, &request.Tags[i].TagValue)
	}
}

func tagKeysIn(_ *http.Request, body []byte, tag func(string, *string)) {
	var request struct{ TagKeys []string }
	_ = json.Unmarshal(body, &request)
	for _, key := range request.TagKeys {
		tag(key, nil)
	}
}

// addRequestTags adds what a request says of tags to the condition keys. Keys of tags that differ in case alone are one
// condition key, with the values of all.
func addRequestTags(conditions map[string][]string, r *http.Request, action string) {
	find := taggedBy[action]
	if find == nil {
		return
	}
	find(r, bodyOf(r.Context()), func(key string, value *string) {
		conditions[keyTagKeys] = append(conditions[keyTagKeys], key)
		if value != nil {
			addTag(conditions, keyRequestTag, key, *value)
		}
	})
}

func addTag(conditions map[string][]string, prefix, key, value string) {
	name := prefix + strings.ToLower(key)
	conditions[name] = append(conditions[name], value)
}

// addResourceTags adds the tags of what an operation of EFS is about: an access point, or a file system, for its
// mount targets too. Of what is not there the operation itself says so.
func (s *Server) addResourceTags(ctx context.Context, conditions map[string][]string, accessPoint, fileSystem string) error {
	id := cmp.Or(accessPoint, fileSystem)
	if id == "" {
		return nil
	}
	tags, err := s.tags(ctx, id)
	if err != nil && asError(err).Status == http.StatusNotFound {
		return nil
	}
	for _, tag := range tags {
		addTag(conditions, keyResourceTag, tag.Key, tag.Value)
	}
	return err
}
