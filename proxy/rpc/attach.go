package rpc

// Attachment is the end of a reply, which goes out from where it lies.
type Attachment interface {
	// Views are its bytes, piece by piece. They stay as they are until Return.
	Views() [][]byte
	// Return is called once, by any goroutine, when the reply is written, or will not be.
	Return()
}

// CanAttach says whether the connection can send more than what the handler encodes.
func (c *Call) CanAttach() bool { return c.attaches }

// Attach ends the reply with the n bytes of a, and their padding (RFC 4506 §4.10), behind all that the handler encodes: the
// caller has seen to it that it is not longer than the encoder's limit altogether. CanAttach is true. It is called once at most. A
// reply that is left empty, or in error, goes without it.
func (c *Call) Attach(a Attachment, n int) { c.attached, c.attachedBytes = a, n }

// detach gives back what was attached.
func (c *Call) detach() {
	if c.attached == nil {
		return
	}
	c.attached.Return()
	c.attached, c.attachedBytes = nil, 0
}

// tailBytes is what comes behind what is encoded.
func (c *Call) tailBytes() int { return (c.attachedBytes + 3) &^ 3 }

var padding [3]byte

// appendTail appends what comes behind what is encoded.
func (c *Call) appendTail(v [][]byte) [][]byte {
	if c.attached == nil {
		return v
	}
	v = append(v, c.attached.Views()...)
	if n := c.tailBytes() - c.attachedBytes; n > 0 {
		v = append(v, padding[:n])
	}
	return v
}
