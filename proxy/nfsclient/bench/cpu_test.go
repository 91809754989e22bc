package bench

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestProcessorTime compares with what the kernel says of this process, and asks for another one until it is gone.
func TestProcessorTime(t *testing.T) {
	var usage unix.Rusage
	for usage.Utime.Usec < 20_000 && usage.Utime.Sec == 0 {
		if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
			t.Fatal(err)
		}
	}
	mine, err := ProcessorTime([]int{os.Getpid()})
	want := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	if err != nil || mine < want-time.Millisecond || mine > want+50*time.Millisecond {
		t.Errorf("%v of this process, %v, where the kernel says %v", mine, err, want)
	}

	other := exec.Command("sh", "-c", "while :; do :; done")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Process.Kill() }) // again, if the test got so far
	pids := []int{os.Getpid(), other.Process.Pid}
	for start := time.Now(); ; {
		alone, err := ProcessorTime(pids[1:])
		if err != nil {
			t.Fatal(err)
		}
		both, err := ProcessorTime(pids)
		if err != nil {
			t.Fatal(err)
		}
		if both < mine+alone {
			t.Fatalf("%v of two processes, of which one had used %v before and the other %v", both, mine, alone)
		}
		if alone >= 10*time.Millisecond {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("a process that is busy has used %v", alone)
		}
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	other.Wait() // it was killed
	if _, err := ProcessorTime(pids); err == nil {
		t.Error("a process that is gone has a time")
	}
}
