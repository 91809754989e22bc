package modules

import (
	"slices"
	"strings"
	"testing"
)

const dep = `kernel/drivers/nvme/host/nvme-core.ko: kernel/block/t10-pi.ko kernel/lib/crc64.ko
kernel/drivers/nvme/host/nvme.ko: kernel/drivers/nvme/host/nvme-core.ko kernel/block/t10-pi.ko kernel/lib/crc64.ko
kernel/block/t10-pi.ko: kernel/lib/crc64.ko
kernel/lib/crc64.ko:
kernel/fs/squashfs/squashfs.ko:
`

func TestClosure(t *testing.T) {
	x, err := Parse(strings.NewReader(dep))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ patterns, want string }{
		{"kernel/drivers/nvme/host/nvme.ko", "crc64 t10-pi nvme-core nvme"},
		{"kernel/fs/ kernel/lib/*.ko", "squashfs crc64"},
		{"kernel/lib/crc64.ko kernel/drivers/", "crc64 t10-pi nvme-core nvme"},
	} {
		got, err := x.Closure(strings.Fields(c.patterns))
		if err != nil {
			t.Errorf("%s: %v", c.patterns, err)
		}
		for i := range got {
			got[i] = strings.TrimSuffix(got[i][strings.LastIndexByte(got[i], '/')+1:], ".ko")
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s: %v, not %s", c.patterns, got, c.want)
		}
	}
	if _, err := x.Closure([]string{"kernel/fs/ext4/"}); err == nil {
		t.Error("a folder that is not there is taken")
	}
	if _, err := Parse(strings.NewReader("words\n")); err == nil {
		t.Error("a line without a colon is taken")
	}
}
