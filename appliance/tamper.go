package appliance

import (
	"strconv"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/xtsengine/filestore"
)

// tamperLog puts blocks that are not what was written there on record, each once. It has one
// goroutine, which close waits for: a record is durable before the next, and the reads that meet such
// blocks do not wait for it. Who can write to a disk can spoil all of it, so the records of one start
// are bounded; the counters are not.
type tamperLog struct {
	append func(audit.Event) error
	log    *zap.Logger

	queue  chan tampering
	ended  sync.WaitGroup
	missed atomic.Uint64 // that found the queue full
}

// tampering is one block.
type tampering struct {
	id    string // of the file system
	block filestore.TamperedBlock
}

// newTamperLog starts one. append is that of the audit log.
func newTamperLog(append func(audit.Event) error, log *zap.Logger) *tamperLog {
	l := &tamperLog{append: append, log: log, queue: make(chan tampering, tamperQueue)}
	l.ended.Go(l.run)
	return l
}

// note takes a block up for the record and returns at once.
func (l *tamperLog) note(id string, b filestore.TamperedBlock) {
	select {
	case l.queue <- tampering{id, b}:
	default:
		l.missed.Add(1)
	}
}

// close returns when everything noted is on record. Nothing is noted after it.
func (l *tamperLog) close() {
	close(l.queue)
	l.ended.Wait()
	if n := l.missed.Load(); n > 0 {
		l.record(nfsealEvent("TamperedBlocksNotRecorded", map[string]string{"count": strconv.FormatUint(n, 10)}))
	}
}

func (l *tamperLog) run() {
	seen := map[tampering]bool{}
	for t := range l.queue {
		if seen[t] {
			continue
		}
		if len(seen) == maxTamperRecords {
			l.missed.Add(1)
			continue
		}
		seen[t] = true
		l.log.Error("a block on the disk is not what was written there: it was changed, moved or rolled back",
			zap.String("file_system", t.id), zap.Uint64("inode", t.block.Inode),
			zap.Uint64("file_block", t.block.FileBlock), zap.Uint64("volume_block", uint64(t.block.Block)))
		e := nfsealEvent("TamperedBlock", map[string]string{
			"inode":       strconv.FormatUint(t.block.Inode, 10),
			"fileBlock":   strconv.FormatUint(t.block.FileBlock, 10),
			"volumeBlock": strconv.FormatUint(uint64(t.block.Block), 10),
		})
		e.Resources, e.ErrorCode = []string{t.id}, "IntegrityError"
		l.record(e)
	}
}

func (l *tamperLog) record(e audit.Event) {
	if err := l.append(e); err != nil {
		l.log.Error("can't be put on record", zap.String("event", e.Name), zap.Error(err))
	}
}

// nfsealEvent is what the daemon itself notices or does.
func nfsealEvent(name string, parameters map[string]string) audit.Event {
	return audit.Event{
		Source: "nfseal", Name: name, Identity: audit.Identity{Type: "AWSService", InvokedBy: "nfseald"},
		Parameters: parameters,
	}
}
