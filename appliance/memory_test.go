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
