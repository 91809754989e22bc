package filestore

import (
	"runtime"
	"sync"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
)

// intentLog makes small synchronous writes durable before they are flushed. Such a write is unstable data like any
// other, and beside that a record in this log: what waits for the disk is one write of one file. The flusher brings
// the data to the volume later, many blocks at a time. After a crash a start carries out the records again whose data
// was not flushed (replayIntent).
//
// A write is logged if no other file shares what it replaces, so that to carry it out again takes no space that a full
// volume lacks: what else it takes was promised to it, and is free after a crash; and if all writes to the file before it
// are logged or stable, so that none becomes durable without those before it (loggable). All others are committed.
//
// Records are numbered. What tells a start which of them count:
//
//   - counterIntent: records below it don't.
//   - tableFlushed: those of an inode up to a number don't. The batch of a flush that has them in it says so, so
//     that whatever changes the file's content after that is never undone by an older record: what does flushes first.
//   - An inode that is no more.
//
// The log has two halves, files that are used in turn. When one is full the background flushes what it has records
// of, stores counterIntent, and lets the half be used anew (retireIntent). If both are full, writes are committed. A
// log that fails is no loss, for the data is in memory: who waited commits, and the log is made anew.
type intentLog struct {
	mu      sync.Mutex
	changed sync.Cond // durable, leading or failure has changed

	last    uint64 // the number of the last record
	durable uint64 // records up to it are
	leading bool   // somebody writes
	crowd   bool   // the last write had several records
	yield   func() // runtime.Gosched
	failure error  // of writing: nothing more is logged until the log is made anew
	closed  bool   // nothing is logged until openIntent; set while there are no files
	wanted  bool   // a write would have been logged if the log were open

	halves  [2]intentHalf
	current int       // the half in use
	pending [2][]byte // records that are yet to be written, of each half
	spare   [2][]byte // memory for the next ones

	flushed map[uint64]uint64 // what is in tableFlushed
	// covering is held shared from a change of flushed to applying the batch that has it, and alone by who deletes from both.
	covering sync.RWMutex

	tending sync.Mutex // held by who opens, retires and drops
	// Under tending: when the log is made again that could not be made; and whether it must not be made.
	retry     time.Time
	suspended bool
}

// intentHalf is one file of the log.
type intentHalf struct {
	file  pebblevfs.File
	used  int64  // bytes of its records, written or pending
	ready bool   // has no records that count, and may be used
	end   uint64 // the number behind its last record, of one that is full; or 0
}

func (l *intentLog) init() {
	l.changed.L = &l.mu
	l.yield = runtime.Gosched
	l.closed = true
	l.flushed = map[uint64]uint64{}
}

// put queues the record of a write, whose number it sets; ok says that there is room for it. half is the size of one,
// in bytes. Whoever calls it holds the lock under which the write was placed, so that records are in the order of writes.
func (l *intentLog) put(r *intentRecord, content []byte, half int64) (ok, wake bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := intentHeaderBytes + int64(len(content))
	ok, wake = l.roomLocked(n, half)
	if !ok {
		return false, wake
	}
	l.last++
	r.number = l.last
	l.halves[l.current].used += n
	l.pending[l.current] = r.append(l.pending[l.current], content)
	return true, wake
}

// roomLocked sees to it that the half in use has room for n bytes; wake says that the background has something to do.
func (l *intentLog) roomLocked(n, half int64) (ok, wake bool) {
	if l.closed || l.failure != nil {
		wake = !l.wanted
		l.wanted = true
		return false, wake
	}
	h := &l.halves[l.current]
	if h.used+n <= half {
		return true, false
	}
	other := &l.halves[1-l.current]
	if !other.ready {
		return false, false
	}
	h.end, other.ready = l.last+1, false
	l.current = 1 - l.current
	return n <= half, true
}

// wait returns when a record is durable. The first who waits writes what all have queued until then. After an
// error the record may be durable or not.
func (l *intentLog) wait(number uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.durable < number {
		switch {
		case l.failure != nil:
			return l.failure
		case l.leading:
			l.changed.Wait()
		default:
			l.writeLocked()
		}
	}
	return nil
}

// writeLocked writes what is pending, those of the older half first: no record is durable without those before it. Where
// the last write had several records, those who are ready to queue theirs do so before.
func (l *intentLog) writeLocked() {
	l.leading = true
	if l.crowd {
		l.mu.Unlock()
		l.yield()
		l.mu.Lock()
	}
	last, parts, first := l.last, l.pending, 1-l.current
	l.crowd = last > l.durable+1
	l.pending = l.spare
	l.spare = [2][]byte{}
	files := [2]pebblevfs.File{l.halves[0].file, l.halves[1].file}
	l.mu.Unlock()
	err := writeDurably(files[first], parts[first])
	if err == nil {
		err = writeDurably(files[1-first], parts[1-first])
	}
	l.mu.Lock()
	l.leading = false
	for k, part := range parts {
		if cap(part) <= maxIntentSpare {
			l.spare[k] = part[:0]
		}
	}
	if err == nil {
		l.durable = last
	} else {
		l.failure = err
	}
	l.changed.Broadcast()
}

// writeDurably appends to a file of the log.
func writeDurably(f pebblevfs.File, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if _, err := f.Write(p); err != nil {
		return err
	}
	return f.SyncData()
}

// cover notes that a flush has an inode's records up to a number.
func (l *intentLog) cover(inode, number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushed[inode] = number
}

// covered gives the inodes whose entry in tableFlushed says nothing that counterIntent does not, once that is end,
// and forgets them.
func (l *intentLog) covered(end uint64) (inodes []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for inode, number := range l.flushed {
		if number < end {
			inodes = append(inodes, inode)
			delete(l.flushed, inode)
		}
	}
	return inodes
}

// full gives the half that is full, or -1, and the number behind its last record.
func (l *intentLog) full() (half int, end uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.halves {
		if l.halves[k].end > 0 {
			return k, l.halves[k].end
		}
	}
	return -1, 0
}

// take gives the file of a full half, for whoever closes it.
func (l *intentLog) take(half int) pebblevfs.File {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.halves[half].file
	l.halves[half] = intentHalf{}
	return f
}

// fail lets nothing more be logged until the log is made anew.
func (l *intentLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure, l.wanted = err, true
	l.changed.Broadcast()
}

// end is the number of the next record.
func (l *intentLog) end() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last + 1
}

// begin has records be numbered from behind those that a start has found.
func (l *intentLog) begin(last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(l.last, last)
	l.durable = l.last
}

// renew lets a half be used, with another file.
func (l *intentLog) renew(half int, file pebblevfs.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.halves[half] = intentHalf{file: file, ready: true}
}

// open begins to log, in files of no records.
func (l *intentLog) open(files [2]pebblevfs.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, f := range files {
		l.halves[k] = intentHalf{file: f, ready: k == 1}
	}
	l.current, l.closed, l.wanted = 0, false, false
}

// isWanted says whether the log is to be made, or to be made anew.
func (l *intentLog) isWanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wanted
}

// close ends logging and gives the files, for whoever closes them, when nobody uses them any more. What is
// pending is written first, if it can be.
func (l *intentLog) close() (files [2]pebblevfs.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return files
	}
	l.closed, l.wanted = true, false
	for l.leading || (l.durable < l.last && l.failure == nil) {
		if l.leading {
			l.changed.Wait()
			continue
		}
		l.writeLocked()
	}
	for k := range l.halves {
		files[k] = l.halves[k].file
		l.halves[k] = intentHalf{}
	}
	return files
}

// reset makes a closed log one that has never been used: nothing is stored of it.
func (l *intentLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure, l.durable = nil, l.last
	l.pending, l.spare = [2][]byte{}, [2][]byte{}
	clear(l.flushed)
}
