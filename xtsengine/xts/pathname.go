package xts

// PathName says in which way New's ciphers work on this processor, for reports.
func PathName() string { return bestPath().String() }
