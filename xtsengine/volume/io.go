package volume

import (
	"fmt"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/xts"
)

// IO is one transfer of a batch: plaintext of whole blocks, at any address, from Block on.
type IO struct {
	Block Block
	Buf   []byte
	// Tags is TagBytes for each block of Buf. Write fills it in; Read compares it with what the
	// device gives, and decrypts nothing that differs. The caller keeps it where who can write to
	// the device can't change it unnoticed.
	Tags []byte
	// Generation goes into the tags: Read has to give what Write was given. It need not be
	// different for every write.
	Generation uint64
}

// run is the blocks that an IO covers.
func (io *IO) run() Run { return Run{io.Block, uint32(len(io.Buf) / BlockBytes)} }

// job is the scratch memory of one window.
type job struct {
	requests []blockdev.Request
}

// release gives the staging buffers back.
func (j *job) release() {
	for i := range j.requests {
		blockdev.Free(j.requests[i].Buf)
		j.requests[i] = blockdev.Request{}
	}
	j.requests = j.requests[:0]
}

// cursor walks over a batch.
type cursor struct {
	batch []IO
	index int // the IO
	at    int // bytes into it
}

func (c *cursor) done() bool { return c.index == len(c.batch) }

// block is where the cursor stands.
func (c *cursor) block() Block {
	return c.batch[c.index].Block + Block(c.at/BlockBytes)
}

// contiguous is how many bytes from the cursor on follow each other on the device, up to limit.
func (c *cursor) contiguous(limit int) int {
	length := len(c.batch[c.index].Buf) - c.at
	next := c.batch[c.index].run().end()
	for i := c.index + 1; i < len(c.batch) && length < limit && c.batch[i].Block == next; i++ {
		length += len(c.batch[i].Buf)
		next = c.batch[i].run().end()
	}
	return min(length, limit)
}

// ahead is the beginning of what comes next, if that is not where the cursor has just been: the cipher itself fetches what
// lies behind.
func (c *cursor) ahead() []byte {
	if c.done() || c.at > 0 {
		return nil
	}
	return c.batch[c.index].Buf[:aheadBytes]
}

// next gives what is at the cursor, up to limit bytes and within one IO, and moves past it.
func (c *cursor) next(limit int) IO {
	io := &c.batch[c.index]
	n := min(len(io.Buf)-c.at, limit)
	first := c.at / BlockBytes
	piece := IO{
		Block:      io.Block + Block(first),
		Buf:        io.Buf[c.at : c.at+n],
		Tags:       io.Tags[first*TagBytes : (first+n/BlockBytes)*TagBytes],
		Generation: io.Generation,
	}
	if c.at += n; c.at == len(io.Buf) {
		c.index, c.at = c.index+1, 0
	}
	return piece
}

// Write encrypts the batch, computes the tags of the ciphertext and stores it. The blocks are used ones of this space, and the caller
// sees to it that no two transfers on one block are under way. A batch is not atomic. Blocks that
// follow each other, in the order of the batch, become one transfer.
func (s *Space) Write(batch []IO) error {
	if err := s.begin(batch, true); err != nil {
		return err
	}
	defer s.gate.RUnlock()
	v := s.volume
	j := <-v.jobs
	defer func() { v.jobs <- j }()
	for c := (cursor{batch: batch}); !c.done(); {
		s.seal(j, &c)
		err := v.dev.Write(j.requests)
		v.counters.count(&v.counters.writes, &v.counters.bytesWritten, j.requests)
		j.release()
		if err != nil {
			return v.note(fmt.Errorf("volume: write: %w", err))
		}
	}
	return nil
}

// seal encrypts the next window into staging buffers, and makes the tags of what the cache still has.
func (s *Space) seal(j *job, c *cursor) {
	for staged := 0; !c.done() && staged < windowBytes; {
		first := c.block()
		length := c.contiguous(min(transferBytes, windowBytes-staged))
		buf := blockdev.Alloc(length)
		for at := 0; at < length; {
			plain, cipher, tags := s.piece(c, min(length-at, hotBytes))
			xts.Fetch(c.ahead())
			sealed := buf[at : at+len(plain.Buf)]
			cipher.Encrypt(sealed, plain.Buf, BlockBytes, xts.UnitOf(uint64(plain.Block)))
			tags.Tags(plain.Tags, sealed, BlockBytes, uint64(plain.Block), plain.Generation)
			at += len(sealed)
		}
		j.requests = append(j.requests, blockdev.Request{Offset: int64(first) * BlockBytes, Buf: buf})
		staged += length
	}
}

// Read fills the batch with the decrypted contents. The blocks lie in chunks of this space. A block
// that is not what was written there (changed, moved, or an older one brought back) is a TagError. It
// is not decrypted, but after any error the contents of the batch are undefined.
func (s *Space) Read(batch []IO) error {
	if err := s.begin(batch, false); err != nil {
		return err
	}
	defer s.gate.RUnlock()
	v := s.volume
	j := <-v.jobs
	defer func() { v.jobs <- j }()
	for c := (cursor{batch: batch}); !c.done(); {
		window := c
		plan(j, &window)
		err := v.dev.Read(j.requests)
		v.counters.count(&v.counters.reads, &v.counters.bytesRead, j.requests)
		if err != nil {
			j.release()
			return v.note(fmt.Errorf("volume: read: %w", err))
		}
		err = s.unseal(j, &c)
		j.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// plan makes the requests of the next window and moves the cursor past it.
func plan(j *job, c *cursor) {
	for staged := 0; !c.done() && staged < windowBytes; {
		first := c.block()
		length := c.contiguous(min(transferBytes, windowBytes-staged))
		for at := 0; at < length; {
			at += len(c.next(length - at).Buf)
		}
		j.requests = append(j.requests, blockdev.Request{Offset: int64(first) * BlockBytes, Buf: blockdev.Alloc(length)})
		staged += length
	}
}

// unseal checks and decrypts the window from its staging buffers and moves the cursor past it.
func (s *Space) unseal(j *job, c *cursor) error {
	for i := range j.requests {
		buf := j.requests[i].Buf
		for at := 0; at < len(buf); {
			plain, cipher, tags := s.piece(c, min(len(buf)-at, hotBytes))
			sealed := buf[at : at+len(plain.Buf)]
			if bad := tags.Verify(plain.Tags, sealed, BlockBytes, uint64(plain.Block), plain.Generation); bad >= 0 {
				s.volume.counters.tagErrors.Add(1)
				return &TagError{plain.Block + Block(bad)}
			}
			cipher.Decrypt(plain.Buf, sealed, BlockBytes, xts.UnitOf(uint64(plain.Block)))
			at += len(sealed)
		}
	}
	return nil
}

// begin checks a batch and enters the gate, which the caller leaves.
func (s *Space) begin(batch []IO, used bool) error {
	for i := range batch {
		if n := len(batch[i].Buf); n == 0 || n%BlockBytes != 0 || n > maxChunkBytes {
			return fmt.Errorf("%w: transfer of %d bytes", ErrMisuse, n)
		} else if len(batch[i].Tags) != n/BlockBytes*TagBytes {
			return fmt.Errorf("%w: %d bytes of tags for a transfer of %d bytes", ErrMisuse, len(batch[i].Tags), n)
		}
	}
	s.gate.RLock()
	if s.closed {
		s.gate.RUnlock()
		return ErrClosed
	}
	if err := s.check(batch, used); err != nil {
		s.gate.RUnlock()
		return err
	}
	return nil
}

// check says whether the batch keeps to the space.
func (s *Space) check(batch []IO, used bool) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range batch {
		run := batch[i].run()
		if err := s.checkLocked(run, used); err != nil {
			return fmt.Errorf("transfer of %v: %w", run, err)
		}
	}
	return nil
}

// Sync makes every Write that returned before the call durable.
func (s *Space) Sync() error { return s.volume.Sync() }
