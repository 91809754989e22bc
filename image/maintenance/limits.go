package maintenance

import (
	"time"

	"github.com/nfseal/nfseal/appliance/configfile"
)

const (
	// maxFailures is after how many wrong codes there is another one.
	maxFailures = 10
	// wrongPause is how long nobody is let in after a wrong code.
	wrongPause = time.Second
	// maxConnections are served at once; others wait.
	maxConnections = 16
	// maxHeaderBytes and maxBodyBytes bound what is read of a request: a configuration, every sign of it escaped.
	maxHeaderBytes = 16 << 10
	maxBodyBytes   = 6*configfile.MaxBytes + 4096
	// maxAnswerBytes bounds what a client reads.
	maxAnswerBytes = 1 << 20
	// requestTime bounds the reading of a request, and its answer.
	requestTime = 30 * time.Second
	// idleTime is how long a connection may have nothing to say.
	idleTime = time.Minute
	// endTime is how long requests may still take when the server ends.
	endTime = 5 * time.Second
	// certificateTime is how long a certificate is valid, which is made for one start.
	certificateTime = 365 * 24 * time.Hour
)
