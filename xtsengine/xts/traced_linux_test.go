//go:build amd64 && !purego

package xts

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// tracedChild is set in the environment of the process that is traced.
const tracedChild = "NFSEAL_XTS_TRACED"

// TestTraced runs the VAES paths on a processor that has AVX-512 and lacks VAES: the processor does
// all the rest, and each AES instruction on ymm or zmm registers, which it refuses, is done here. A
// child process compares the paths with the generic one.
func TestTraced(t *testing.T) {
	switch {
	case available(pathVAES512):
		t.Skip("this processor has the instructions: TestPaths and its like run here")
	case !cpu.X86.HasAVX512F || !cpu.X86.HasAVX512BW || !cpu.X86.HasAES:
		t.Skip("runs on a processor with AVX-512")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(os.Args[0], "-test.run=^TestTracedChild$", "-test.v")
	cmd.Env = append(os.Environ(), tracedChild+"=1", "GOMAXPROCS=1")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Skipf("no tracing here (%v); runs where ptrace(2) is allowed", err)
	}
	tr := tracer{child: cmd.Process.Pid}
	if err := tr.run(); err != nil {
		t.Fatal(err)
	}
	if tr.rounds == 0 {
		t.Fatal("no instruction was done for the child")
	}
	t.Logf("%d instructions done for the child", tr.rounds)
}

// TestTracedChild is what TestTraced traces.
func TestTracedChild(t *testing.T) {
	if os.Getenv(tracedChild) == "" {
		t.Skip("TestTraced runs it")
	}
	r := rand.New(rand.NewPCG(23, 24))
	key := testKey(r)
	c, g := mustOpen(t, key, pathVAES512), mustOpen(t, key, pathGeneric)
	for _, unitBytes := range []int{512, 1024, 1536, 4096} {
		for _, units := range []int{1, 2, 3, 4, 5, 9} {
			compareTraced(t, r, c, g, unitBytes, units)
		}
	}
	compareTraced(t, r, c, g, 65536, 1)
	for p := pathVAES; p <= pathVAES512; p++ {
		if !sameAnswers(mustOpen(t, key, p), g) {
			t.Errorf("%s fails the self-test", p)
		}
	}
}

// compareTraced does one run in both directions, out of place and in place.
func compareTraced(t *testing.T, r *rand.Rand, c, g *Cipher, unitBytes, units int) {
	t.Helper()
	n := unitBytes * units
	src, first := randomBytes(r, n+1)[1:], Unit{r.Uint64(), r.Uint64() >> 1}
	want, got := make([]byte, n), make([]byte, n+64)
	g.Encrypt(want, src, unitBytes, first)
	if done := c.wholeUnits(got, src, unitBytes, first, false); done != n {
		t.Fatalf("%d units of %d bytes: %d bytes done together", units, unitBytes, done)
	}
	if string(got[:n]) != string(want) || string(got[n:]) != string(make([]byte, 64)) {
		t.Errorf("%d units of %d bytes: ciphertext differs", units, unitBytes)
	}
	if c.wholeUnits(want, want, unitBytes, first, true); string(want) != string(src) {
		t.Errorf("%d units of %d bytes: plaintext does not come back", units, unitBytes)
	}
}

// tracer lets a child run and does for it the AES instructions that its processor refuses.
type tracer struct {
	child  int
	rounds int
}

// run follows the child and its threads until it ends.
func (tr *tracer) run() error {
	var ws unix.WaitStatus
	if _, err := unix.Wait4(tr.child, &ws, 0, nil); err != nil {
		return err
	}
	if err := unix.PtraceSetOptions(tr.child, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		return err
	}
	for pid := tr.child; ; {
		signal, err := tr.stopped(pid, ws)
		if err != nil {
			return err
		}
		if err := unix.PtraceCont(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
		if pid, err = tr.wait(&ws); err != nil || pid == 0 {
			return err
		}
	}
}

// wait returns the next thread that stops; 0 when the child has ended well.
func (tr *tracer) wait(ws *unix.WaitStatus) (pid int, err error) {
	for {
		pid, err = unix.Wait4(-tr.child, ws, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case ws.Stopped():
			return pid, nil
		case pid == tr.child && ws.Exited() && ws.ExitStatus() == 0:
			return 0, nil
		case pid == tr.child:
			return 0, errors.New("the child failed: its output says why")
		}
	}
}

// stopped deals with one stop, and returns the signal that the thread goes on with.
func (tr *tracer) stopped(pid int, ws unix.WaitStatus) (signal int, err error) {
	switch s := ws.StopSignal(); s {
	case unix.SIGTRAP, unix.SIGSTOP:
		return 0, nil
	case unix.SIGILL:
		n, err := emulate(pid)
		if tr.rounds += n; n > 0 || err != nil {
			return 0, err
		}
		return int(s), nil
	default:
		return int(s), nil
	}
}

// emulate does the AES instructions at which a thread stands, as many as follow
// each other.
func emulate(pid int) (done int, err error) {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return 0, err
	}
	state, err := getState(pid)
	if err != nil {
		return 0, err
	}
	for {
		var code [6]byte
		if _, err := unix.PtracePeekText(pid, uintptr(regs.Rip), code[:]); err != nil {
			return done, err
		}
		in, ok := decode(code)
		if !ok {
			break
		}
		in.do(state, state.zmm(in.key))
		regs.Rip += uint64(in.length)
		done++
	}
	if done == 0 {
		return 0, nil
	}
	return done, errors.Join(setState(pid, state), unix.PtraceSetRegs(pid, &regs))
}

// instruction is VAESENC, VAESENCLAST, VAESDEC or VAESDECLAST.
type instruction struct {
	last, inverse    bool
	dst, blocks, key int
	width, length    int // of the registers and of the code, in bytes
}

// What the two forms have in common.
const (
	map0F38  = 2
	prefix66 = 1
)

// decode reads the forms that the assembly here uses.
func decode(b [6]byte) (in instruction, ok bool) {
	switch b[0] {
	case 0x62:
		return decodeEVEX(b)
	case 0xc4:
		return decodeVEX(b)
	}
	return in, false
}

func isRound(op byte) bool { return op >= 0xdc && op <= 0xdf }

// inverted is value if bit n of b is clear.
func inverted(b byte, n uint, value int) int { return int(^b>>n&1) * value }

// decodeEVEX reads the form for zmm registers (Intel SDM volume 2, 2.7).
func decodeEVEX(b [6]byte) (in instruction, ok bool) {
	p0, p1, p2, op, modrm := b[1], b[2], b[3], b[4], b[5]
	if p0&0x0f != map0F38 || p1&7 != 4|prefix66 || p2&0xf7 != 2<<5 || !isRound(op) || modrm>>6 != 3 {
		return in, false
	}
	return instruction{
		last:    op&1 == 1,
		inverse: op >= 0xde,
		dst:     int(modrm>>3&7) + inverted(p0, 7, 8) + inverted(p0, 4, 16),
		blocks:  int(^p1>>3&15) + inverted(p2, 3, 16),
		key:     int(modrm&7) + inverted(p0, 5, 8) + inverted(p0, 6, 16),
		width:   64,
		length:  6,
	}, true
}

// decodeVEX reads the form for ymm registers (Intel SDM volume 2, 2.3.5).
func decodeVEX(b [6]byte) (in instruction, ok bool) {
	p0, p1, op, modrm := b[1], b[2], b[3], b[4]
	if p0&0x1f != map0F38 || p1&7 != 4|prefix66 || !isRound(op) || modrm>>6 != 3 {
		return in, false
	}
	return instruction{
		last:    op&1 == 1,
		inverse: op >= 0xde,
		dst:     int(modrm>>3&7) + inverted(p0, 7, 8),
		blocks:  int(^p1 >> 3 & 15),
		key:     int(modrm&7) + inverted(p0, 5, 8),
		width:   32,
		length:  5,
	}, true
}

// do carries the instruction out. One on ymm registers clears the rest of its destination.
func (in instruction) do(s *xstate, key [64]byte) {
	var result [64]byte
	blocks := s.zmm(in.blocks)
	copy(result[:in.width], blocks[:])
	for i := 0; i < in.width; i += BlockBytes {
		b := (*[BlockBytes]byte)(result[i:])
		if in.inverse {
			decryptRound(b, in.last)
		} else {
			encryptRound(b, in.last)
		}
		for k := range b {
			b[k] ^= key[i+k]
		}
	}
	s.setZMM(in.dst, result)
}

// xstate is the extended state of a thread in the standard format (Intel SDM volume 1, 13.4): offsets
// as on Intel's processors, the only ones with AVX-512 and without VAES.
type xstate [2696]byte

const (
	offsetXMM     = 160
	offsetHeader  = 512
	offsetYMM     = 576
	offsetZMM     = 1152 // upper halves of 0…15
	offsetHighZMM = 1664 // 16…31
	stateNote     = 0x202
	vectorState   = 0xe6 // SSE, AVX, opmask and the two parts of ZMM
)

func getState(pid int) (*xstate, error) {
	s := new(xstate)
	return s, regset(unix.PTRACE_GETREGSET, pid, s)
}

func setState(pid int, s *xstate) error {
	header := s[offsetHeader:]
	binary.LittleEndian.PutUint64(header, binary.LittleEndian.Uint64(header)|vectorState)
	return regset(unix.PTRACE_SETREGSET, pid, s)
}

func regset(request, pid int, s *xstate) error {
	v := unix.Iovec{Base: &s[0], Len: uint64(len(s))}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(pid), stateNote, uintptr(unsafe.Pointer(&v)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (s *xstate) zmm(n int) (b [64]byte) {
	if n >= 16 {
		copy(b[:], s[offsetHighZMM+64*(n-16):])
		return b
	}
	copy(b[:16], s[offsetXMM+16*n:])
	copy(b[16:32], s[offsetYMM+16*n:])
	copy(b[32:], s[offsetZMM+32*n:])
	return b
}

func (s *xstate) setZMM(n int, b [64]byte) {
	if n >= 16 {
		copy(s[offsetHighZMM+64*(n-16):], b[:])
		return
	}
	copy(s[offsetXMM+16*n:][:16], b[:16])
	copy(s[offsetYMM+16*n:][:16], b[16:32])
	copy(s[offsetZMM+32*n:][:32], b[32:])
}
