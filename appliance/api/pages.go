package api

import (
	"net/url"
	"strconv"
)

// pageSize is how many elements a query wants at most: the parameter of that name.
func pageSize(v url.Values, name string) (int, error) {
	text := v.Get(name)
	if text == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, badRequest("%s must be a number of at least 1", name)
	}
	return min(n, maxPage), nil
}

// pageOf returns at most size elements of all, which is in the order of their names, behind the one that is
// called after; and, if there are more, the name of the last, after which the next page begins.
func pageOf[T any](all []T, after string, size int, name func(*T) string) (found []T, next string) {
	for i := range all {
		if name(&all[i]) <= after {
			continue
		}
		if len(found) == size {
			return found, name(&found[size-1])
		}
		found = append(found, all[i])
	}
	return found, ""
}
