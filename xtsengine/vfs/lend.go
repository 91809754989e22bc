package vfs

import "context"

// Lender is a FileSystem that can let a reader have content where it lies, instead of a copy of it.
type Lender interface {
	// Lend is FileSystem.Read of up to length bytes, of content that lies in memory, whole. A nil loan is no error:
	// there is nothing to be lent, for whatever reason, and Read says what there is.
	Lend(ctx context.Context, cred *Cred, id FileID, offset uint64, length int) (loan Loan, eof bool)
}

// Loan is content as it was when it was lent, whatever becomes of the file. It takes memory from others until it is returned.
type Loan interface {
	// Views are the content, piece by piece. Nobody writes to them.
	Views() [][]byte
	// Return gives it back. It is called once, by any goroutine, and the loan is not used any more.
	Return()
}
