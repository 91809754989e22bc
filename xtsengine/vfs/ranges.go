package vfs

// CheckRange returns nil if Allocate and Deallocate can be asked for a range: it is not empty and ends
// at MaxFileBytes at the latest.
func CheckRange(offset, length uint64) error {
	switch {
	case length == 0:
		return ErrInvalid
	case offset > MaxFileBytes || length > MaxFileBytes-offset:
		return ErrFileTooBig
	}
	return nil
}

// CloneRange checks what Clone is asked for, between files with the attributes src and dst, and
// returns how many bytes it is about; 0: there is nothing to do.
func CloneRange(src, dst *Attr, srcOffset, dstOffset, length uint64) (uint64, error) {
	if srcOffset > src.Size {
		return 0, ErrInvalid
	}
	rest := src.Size - srcOffset
	if length == 0 {
		length = rest
	}
	switch {
	case srcOffset%CloneBytes != 0 || dstOffset%CloneBytes != 0 || length > rest:
		return 0, ErrInvalid
	case dstOffset > MaxFileBytes || length > MaxFileBytes-dstOffset:
		return 0, ErrFileTooBig
	case length%CloneBytes != 0 && (length != rest || dstOffset+length < dst.Size):
		return 0, ErrInvalid
	case src.ID == dst.ID && srcOffset < dstOffset+length && dstOffset < srcOffset+length:
		return 0, ErrInvalid
	}
	return length, nil
}
