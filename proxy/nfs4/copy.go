package nfs4

import (
	"context"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// copyPart copies the len(p) bytes that follow the first done ones of job, and returns how many there
// were.
func (s *Service) copyPart(ctx context.Context, job *copying, done uint64, p []byte) (uint64, error) {
	n, _, err := s.fs.Read(ctx, job.cred, job.from, job.fromAt+done, p)
	if err != nil || n == 0 {
		return 0, err
	}
	_, err = s.fs.Write(ctx, &job.writer, job.cred != nil, job.to, job.toAt+done, p[:n], vfs.Unstable)
	if err != nil {
		return 0, err
	}
	return uint64(n), nil
}
