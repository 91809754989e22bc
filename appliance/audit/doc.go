// Package audit is the append-only record of what was done with keys and through the API. Append
// returns when the record is on stable storage; a caller whose record can't be written must not do
// what it was about to do.
//
// # Layout
//
// A directory of files 00000001.jsonl, 00000002.jsonl, …: one at each start of the daemon, and one
// more whenever a file reaches Options.MaxFileBytes. A line is
//
//	{"hash":"<64 hex digits>","record":{…}}\n
//
// where the hash is SHA-256 over the bytes of the record as they stand in the line. Each record has
// a sequence number, one greater than the one before, and in "previous" the hash of the one before:
// lines can't be changed, dropped, inserted or reordered without breaking the chain. The chain goes
// on from file to file. The end of the chain, like that of any log without an outside witness, can
// be cut off; whoever keeps a copy of the last hash sees it.
//
// After a crash the end of a file can be incomplete: the lines, or parts of lines, of records that were written together and
// not durable yet. Nobody was told that they exist, and the next file continues from the line before them. Until there is a next
// file, Verify can't know such an end from an edit, unless it is one line without its end.
//
// # Concurrency
//
// Append may be called from any number of goroutines; one mutex orders them, and those that wait while a Sync is under way
// share the next. The package starts no goroutine.
package audit
