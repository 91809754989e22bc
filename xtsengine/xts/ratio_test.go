package xts

import (
	"bytes"
	"crypto/aes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	reference "golang.org/x/crypto/xts"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/xtsengine/xts/ceiling"
)

// subject is one thing whose speed is measured: once does ratioBytes.
type subject struct {
	name   string
	goal   float64 // of the ratio to yardstick; 0: a yardstick itself
	toward string
	once   func()
}

const (
	ratioBytes  = 64 << 10 // a subject's work at a time: sixteen units of 4 KiB
	ratioTimes  = 48       // of them in a round
	ratioRounds = 51
)

// TestRatios prints the best path's speed as ratios to the processor's ceiling and to other
// implementations: medians of rounds in which every subject has its turn, by the processor time of
// this thread, so that other work on the machine counts little. It fails only on what can't be
// measured.
func TestRatios(t *testing.T) {
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("a measurement; make bench-xts runs it")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := mustOpen(t, testKey(rand.New(rand.NewPCG(1, 2))), measuredPath(t))
	width, ok := ceilingWidth(c.path)
	if !ok {
		t.Skipf("the %s path has no ceiling to be held against; runs on a processor with AES instructions", c.Path())
	}
	all := subjects(t, c, width)
	rates := measure(all)
	fmt.Printf("path %s, ceiling %.2f GB/s\n", c.Path(), median(rates["ceiling"]))
	for _, s := range all {
		if s.goal == 0 {
			continue
		}
		fmt.Printf("ratio %s %.3f goal %.2f (%.2f GB/s)\n", s.name, medianRatio(rates[s.name], rates[s.toward]),
			s.goal, median(rates[s.name]))
	}
	compareOpenSSL(t, median(rates["encrypt-batch"]), median(rates["decrypt-batch"]))
}

// measuredPath is the best one, or the one that NFSEAL_XTS_PATH names.
func measuredPath(t *testing.T) path {
	name := os.Getenv("NFSEAL_XTS_PATH")
	if name == "" {
		return bestPath()
	}
	for p := pathGeneric; p < pathCount; p++ {
		if p.String() == name && available(p) {
			return p
		}
	}
	t.Fatalf("NFSEAL_XTS_PATH=%s: this processor has no path of that name", name)
	return pathClosed
}

func ceilingWidth(p path) (ceiling.Width, bool) {
	w, ok := map[path]ceiling.Width{
		pathAESNI:      ceiling.XMM,
		pathVAES:       ceiling.YMM,
		pathVAES512:    ceiling.ZMM,
		pathVAES512Mul: ceiling.ZMM,
	}[p]
	return w, ok
}

// subjects are the measurements of the cipher and their yardsticks. Source and destination are not
// a power of two apart.
func subjects(t *testing.T, c *Cipher, width ceiling.Width) []subject {
	memory := make([]byte, 2*ratioBytes+8192)
	dst, src := memory[:ratioBytes], memory[ratioBytes+4672:][:ratioBytes]
	ref, err := reference.NewCipher(aes.NewCipher, testKey(rand.New(rand.NewPCG(1, 2))))
	if err != nil {
		t.Fatal(err)
	}
	all := []subject{
		{"ceiling", 0, "", func() { ceiling.Run(width, ratioBytes) }},
		{"x-crypto", 0, "", func() {
			for at := 0; at < ratioBytes; at += 4096 {
				ref.Encrypt(dst[at:at+4096], src[at:at+4096], 1)
			}
		}},
	}
	for name, f := range map[string]func(*Cipher, []byte, []byte, int, Unit){"encrypt": (*Cipher).Encrypt, "decrypt": (*Cipher).Decrypt} {
		single := func() {
			for at := 0; at < ratioBytes; at += 4096 {
				f(c, dst[at:at+4096], src[at:at+4096], 4096, UnitOf(uint64(at)))
			}
		}
		batch := func() { f(c, dst, src, 4096, UnitOf(1)) }
		all = append(all,
			subject{name + "-batch", 0.93, "ceiling", batch},
			subject{name + "-single", 0.82, "ceiling", single},
			subject{name + "-512-batch", 0.85, "ceiling", func() { f(c, dst, src, 512, UnitOf(1)) }},
			subject{name + "-to-x-crypto", 35, "x-crypto", batch})
	}
	slices.SortStableFunc(all[2:], func(a, b subject) int { return strings.Compare(b.name, a.name) })
	return all
}

// measure returns the rates of every subject, round by round, in GB/s.
func measure(all []subject) map[string][]float64 {
	rates := make(map[string][]float64)
	for range ratioRounds {
		for _, s := range all {
			begin := threadTime()
			for range ratioTimes {
				s.once()
			}
			spent := max(threadTime()-begin, 1)
			rates[s.name] = append(rates[s.name], float64(ratioTimes*ratioBytes)/float64(spent))
		}
	}
	return rates
}

// threadTime is the processor time of the calling thread, in nanoseconds.
func threadTime() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

func median(x []float64) float64 {
	sorted := slices.Sorted(slices.Values(x))
	return sorted[len(sorted)/2]
}

// medianRatio is the median of the ratios within a round.
func medianRatio(a, b []float64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return median(ratios)
}

// compareOpenSSL measures the openssl command's EVP, which counts processor time too.
func compareOpenSSL(t *testing.T, encrypt, decrypt float64) {
	version, err := exec.Command("openssl", "version").Output()
	if err != nil {
		fmt.Println("no openssl command: not compared with it")
		return
	}
	for _, d := range []struct {
		name string
		rate float64
		args []string
	}{{"encrypt", encrypt, nil}, {"decrypt", decrypt, []string{"-decrypt"}}} {
		theirs := opensslRate(t, d.args)
		fmt.Printf("ratio %s-to-openssl %.3f goal 2.30 (%.2f GB/s, %s)\n", d.name, d.rate/theirs, theirs,
			strings.Join(strings.Fields(string(version))[:2], " "))
	}
}

// opensslRate is the median of three runs, in GB/s. The last line of the output ends with the rate
// in thousands of bytes a second, such as 1234567.89k.
func opensslRate(t *testing.T, more []string) float64 {
	t.Helper()
	var rates []float64
	for range 3 {
		args := append([]string{"speed", "-evp", "aes-256-xts", "-bytes", "4096", "-seconds", "1"}, more...)
		out, err := exec.Command("openssl", args...).Output()
		if err != nil {
			t.Fatalf("openssl %v: %v", args, err)
		}
		lines := strings.Split(string(bytes.TrimSpace(out)), "\n")
		fields := strings.Fields(lines[len(lines)-1])
		k, err := strconv.ParseFloat(strings.TrimSuffix(fields[len(fields)-1], "k"), 64)
		if err != nil {
			t.Fatalf("openssl says %q", lines[len(lines)-1])
		}
		rates = append(rates, k*1e3/1e9)
	}
	return median(rates)
}
