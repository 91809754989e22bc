package filestore

import "encoding/binary"

// The tables: the first byte of each key.
const (
	tableIdentity byte = 1 + iota
	tableCounter
	tableInode
	tableName
	tableCookie
	tableExtent
	tableJournal
	tableInline
	tableOrphan
	tableClient
	tableTag
	tableShared
	tableXattr
	tableMoved
	tableMark
	tableFlushed
)

// The counters.
const (
	counterInode  byte = 1 // inode numbers below it may have been used
	counterChange byte = 2 // change values below it may have been shown
	counterStarts byte = 3 // how often the store was opened
	counterUsage  byte = 4 // what is metered; see usage
	counterIntent byte = 5 // records of the intent log below it don't count
	counterFloor  byte = 6 // what change attributes of regular files below it count as
	counterClosed byte = 7 // the last start that ended in order, as counterStarts has it
)

var be = binary.BigEndian

func counterKey(counter byte) []byte { return []byte{tableCounter, counter} }

// numberKey is a key of one number: inodes, orphans.
func numberKey(table byte, number uint64) []byte {
	return be.AppendUint64([]byte{table}, number)
}

// pairKey is a key of two numbers: cookies, extents, journal and inline blocks.
func pairKey(table byte, first, second uint64) []byte {
	return be.AppendUint64(be.AppendUint64(append(make([]byte, 0, 17), table), first), second)
}

func nameKey(dir uint64, name string) []byte {
	k := append(make([]byte, 0, 9+len(name)), tableName)
	return append(be.AppendUint64(k, dir), name...)
}

func clientKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), tableClient), key...)
}

// splitNumber reads a numberKey.
func splitNumber(k []byte) (number uint64, ok bool) {
	if len(k) != 9 {
		return 0, false
	}
	return be.Uint64(k[1:]), true
}

// splitPair reads a pairKey.
func splitPair(k []byte) (first, second uint64, ok bool) {
	if len(k) != 17 {
		return 0, 0, false
	}
	return be.Uint64(k[1:]), be.Uint64(k[9:]), true
}
