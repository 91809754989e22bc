package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// TagsRequest is the body of TagResource and CreateTags.
type TagsRequest struct {
	Tags []Tag `json:"Tags"`
}

// DeleteTagsRequest is the body of DeleteTags.
type DeleteTagsRequest struct {
	TagKeys []string `json:"TagKeys"`
}

// ListTagsResponse is one page of ListTagsForResource.
type ListTagsResponse struct {
	Tags      []Tag  `json:"Tags"`
	NextToken string `json:"NextToken,omitempty"`
}

// DescribeTagsResponse is one page of DescribeTags.
type DescribeTagsResponse struct {
	Marker     string `json:"Marker,omitempty"`
	Tags       []Tag  `json:"Tags"`
	NextMarker string `json:"NextMarker,omitempty"`
}

func checkTags(tags []Tag) ([]catalog.Tag, error) {
	if len(tags) > maxTags {
		return nil, badRequest("at most %d tags are allowed", maxTags)
	}
	seen := make(map[string]bool, len(tags))
	list := make([]catalog.Tag, 0, len(tags))
	for _, tag := range tags {
		if n := utf8.RuneCountInString(tag.Key); n < 1 || n > maxTagKeyChars || reservedKey(tag.Key) {
			return nil, badRequest("a tag's key must have 1 to %d characters and not begin with aws:", maxTagKeyChars)
		}
		if utf8.RuneCountInString(tag.Value) > maxTagValueChars {
			return nil, badRequest("a tag's value must have at most %d characters", maxTagValueChars)
		}
		if seen[tag.Key] {
			return nil, badRequest("a tag's key stands twice")
		}
		seen[tag.Key] = true
		list = append(list, catalog.Tag(tag))
	}
	return list, nil
}

// reservedKey says whether a tag's key is one that users can't give.
func reservedKey(key string) bool {
	const reserved = "aws:"
	return len(key) >= len(reserved) && strings.EqualFold(key[:len(reserved)], reserved)
}

func checkTagKeys(keys []string) error {
	if len(keys) < 1 || len(keys) > maxTags {
		return badRequest("1 to %d keys of tags are needed", maxTags)
	}
	for _, key := range keys {
		if n := utf8.RuneCountInString(key); n < 1 || n > maxTagKeyChars {
			return badRequest("a tag's key must have 1 to %d characters", maxTagKeyChars)
		}
	}
	return nil
}

func describeTags(tags []catalog.Tag) []Tag {
	list := make([]Tag, 0, len(tags))
	for _, tag := range tags {
		list = append(list, Tag(tag))
	}
	return list
}

// taggedID is the id of a file system or an access point in the path of r, which may be an ARN.
func taggedID(r *http.Request, parameters map[string]string) (string, error) {
	text := r.PathValue("id")
	if id := idIn(text, ":access-point/"); wellFormed("fsap", id) {
		parameters["accessPointId"] = id
		return id, nil
	}
	return fileSystemID(r, parameters)
}

// tags are those of a file system or an access point.
func (s *Server) tags(ctx context.Context, id string) ([]catalog.Tag, error) {
	if wellFormed("fsap", id) {
		p, err := s.o.Backend.AccessPoint(ctx, id)
		return p.Tags, err
	}
	f, err := s.fileSystem(ctx, id)
	return f.Tags, err
}

// changeTags gives a file system or an access point what change makes of its tags.
func (s *Server) changeTags(ctx context.Context, id string, change func([]catalog.Tag) ([]catalog.Tag, error)) (err error) {
	if wellFormed("fsap", id) {
		_, err = s.o.Backend.ChangeAccessPoint(ctx, id, func(p *catalog.AccessPoint) (err error) {
			p.Tags, err = change(p.Tags)
			return err
		})
		return err
	}
	_, err = s.o.Backend.ChangeFileSystem(ctx, id, func(f *catalog.FileSystem) (err error) {
		f.Tags, err = change(f.Tags)
		return err
	})
	return noFileSystem(id, err)
}

// addTags answers with status when the tags of a request were added to id.
func (s *Server) addTags(r *http.Request, id string, status int) (prepared, error) {
	var request TagsRequest
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	more, err := checkTags(request.Tags)
	if err == nil && len(more) == 0 {
		err = badRequest("Tags is needed")
	}
	return func(r *http.Request) (int, any, error) {
		return status, nil, s.changeTags(r.Context(), id, func(tags []catalog.Tag) ([]catalog.Tag, error) {
			return catalog.WithTags(tags, more)
		})
	}, err
}

// removeTags answers with status when id has no tags with the keys any more.
func (s *Server) removeTags(id string, keys []string, status int) (prepared, error) {
	return func(r *http.Request) (int, any, error) {
		return status, nil, s.changeTags(r.Context(), id, func(tags []catalog.Tag) ([]catalog.Tag, error) {
			return catalog.WithoutTags(tags, keys), nil
		})
	}, checkTagKeys(keys)
}

// pageOfTags is the page of the tags of id that a query asks for: the parameters after, the key behind which it
// begins, and size have the names that are given.
func (s *Server) pageOfTags(ctx context.Context, id string, v url.Values, after, size string) (found []Tag, next string, err error) {
	most, err := pageSize(v, size)
	if err != nil {
		return nil, "", err
	}
	tags, err := s.tags(ctx, id)
	if err != nil {
		return nil, "", err
	}
	page, next := pageOf(catalog.SortedTags(tags), v.Get(after), most, func(t *catalog.Tag) string { return t.Key })
	return describeTags(page), next, nil
}

func (s *Server) prepareTag(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := taggedID(r, parameters)
	if err != nil {
		return nil, err
	}
	return s.addTags(r, id, http.StatusOK)
}

func (s *Server) prepareUntag(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := taggedID(r, parameters)
	if err != nil {
		return nil, err
	}
	return s.removeTags(id, r.URL.Query()["tagKeys"], http.StatusOK)
}

func (s *Server) prepareListTags(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := taggedID(r, parameters)
	return func(r *http.Request) (int, any, error) {
		tags, next, err := s.pageOfTags(r.Context(), id, r.URL.Query(), "NextToken", "MaxResults")
		return http.StatusOK, ListTagsResponse{tags, next}, err
	}, err
}

// prepareCreateTags, prepareDeleteTags and prepareDescribeTags are the older operations, for file systems only.
func (s *Server) prepareCreateTags(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	if err != nil {
		return nil, err
	}
	return s.addTags(r, id, http.StatusNoContent)
}

func (s *Server) prepareDeleteTags(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	var request DeleteTagsRequest
	if err := firstOf(err, decodeBody(r, &request)); err != nil {
		return nil, err
	}
	return s.removeTags(id, request.TagKeys, http.StatusNoContent)
}

func (s *Server) prepareDescribeTags(r *http.Request, parameters map[string]string) (prepared, error) {
	id, err := fileSystemID(r, parameters)
	return func(r *http.Request) (int, any, error) {
		v := r.URL.Query()
		tags, next, err := s.pageOfTags(r.Context(), id, v, "Marker", "MaxItems")
		return http.StatusOK, DescribeTagsResponse{v.Get("Marker"), tags, next}, err
	}, err
}
