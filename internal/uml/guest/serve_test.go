package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml/control"
)

// What a command has written is heard to its end, also where this process comes to it late, and a daemon that it leaves
// behind with its descriptors is not waited for.
func TestOutputOfWhatHasEnded(t *testing.T) {
	for _, script := range []string{"echo one; sleep 0.1; echo two", "sleep 30 & echo one; sleep 0.1; echo two"} {
		guest, host := net.Pipe()
		exited := make(chan control.Exit, 1)
		go func() {
			exited <- execute(t.Context(), &control.Request{Args: []string{"sh", "-c", script}}, guest)
			_ = control.WriteJSON(guest, control.KindExit, control.Exit{})
		}()
		time.Sleep(2 * outputGrace) // meanwhile the first line waits for the host, and the second one in the pipe
		began := time.Now()
		var said strings.Builder
		if _, err := control.ReadAnswer(host, &said, &said); err != nil {
			t.Fatal(err)
		}
		if exit := <-exited; exit != (control.Exit{}) || said.String() != "one\ntwo\n" {
			t.Errorf("%s: %+v, said %q", script, exit, said.String())
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: took %v", script, took)
		}
	}
}
