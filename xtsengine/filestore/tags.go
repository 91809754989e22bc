package filestore

import (
	"github.com/cockroachdb/pebble/v2"
)

// readExtents reads the extents of a file that begin from block lo up to hi, with their tags.
func readExtents(db pebble.Reader, number, lo, hi uint64) (extents, error) {
	var e extents
	tagged := 0 // extents of e that have tags
	err := scanTable(db, pairKey(tableExtent, number, lo), pairKey(tableExtent, number, hi), func(key, value []byte) error {
		_, file, ok := splitPair(key)
		if !ok {
			return damaged("extent key", number)
		}
		x, err := decodeExtent(number, file, value)
		if err != nil {
			return err
		}
		if len(e) > 0 && e[len(e)-1].end() > file {
			return damaged("order of extents", number)
		}
		if e = append(e, x); x.place == onVolume {
			tagged++
		}
		return nil
	})
	if err != nil || tagged == 0 {
		return e, err
	}
	k := 0
	err = scanTable(db, pairKey(tableTag, number, lo), pairKey(tableTag, number, hi), func(key, value []byte) error {
		_, file, ok := splitPair(key)
		for k < len(e) && (e[k].place != onVolume || e[k].file < file) {
			k++
		}
		if !ok || k == len(e) || e[k].file != file {
			return damaged("tags", number)
		}
		tagged--
		return decodeTags(number, &e[k], value)
	})
	if err == nil && tagged != 0 {
		err = damaged("tags", number)
	}
	return e, err
}

// scanTable calls visit for every key from lo up to hi, in order; key and value are valid during the
// call.
func scanTable(db pebble.Reader, lo, hi []byte, visit func(key, value []byte) error) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return metaErr(err)
	}
	return scanIter(it, visit)
}
