package appliance

import (
	"testing"

	"github.com/nfseal/nfseal/xtsengine/filestore"
)

// TestMemoryFor checks the default of the memory: a quarter, within bounds.
func TestMemoryFor(t *testing.T) {
	for _, test := range []struct{ machineBytes, want int64 }{
		{24 << 30, 1 << 30},
		{4 << 30, 1 << 30},
		{2 << 30, 512 << 20},
		{256 << 20, 64 << 20},
		{32 << 20, minMemoryBytes},
	} {
		if got := memoryFor(test.machineBytes); got != test.want {
			t.Errorf("memory on a machine of %d bytes: %d, want %d", test.machineBytes, got, test.want)
		}
	}
	if got := defaultMemory(); got < minMemoryBytes || got > maxDefaultMemoryBytes {
		t.Errorf("the default here is %d", got)
	}
}

// TestMemoryLimit checks that heap and content keep to the memory, with room for buffers.
func TestMemoryLimit(t *testing.T) {
	for _, memoryBytes := range []int64{512 << 20, 1 << 30, 8 << 30} {
		o := Options{MemoryBytes: memoryBytes}
		if sum := o.MemoryLimit() + filestore.ContentBytes(memoryBytes); sum > memoryBytes || sum < memoryBytes*7/10 {
			t.Errorf("heap and content have %d of %d bytes", sum, memoryBytes)
		}
	}
}

// TestBufferBytes: long calls of 32 clients with 8 of 1 MiB each have memory from a machine with 2 GiB on.
func TestBufferBytes(t *testing.T) {
	for _, test := range []struct{ memoryBytes, want int64 }{
		{minMemoryBytes, 32 << 20},
		{64 << 20, 40 << 20},
		{memoryFor(2 << 30), 320 << 20},
		{1 << 30, 320 << 20},
		{8 << 30, 2 << 30},
	} {
		if got := bufferBytes(test.memoryBytes); got != test.want {
			t.Errorf("buffers beside memory of %d bytes: %d, want %d", test.memoryBytes, got, test.want)
		}
	}
}
