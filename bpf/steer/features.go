package steer

import (
	"errors"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
)

// Supported says whether this kernel can steer: nil, a *FeatureError or ErrPermission. Kernels from
// 6.1 can, unless they were built without CONFIG_BPF_SYSCALL, CONFIG_BPF_STREAM_PARSER or
// CONFIG_NET_NS.
func Supported() error {
	for _, f := range []struct {
		name, since string
		probe       func() error
	}{
		{"sockmap (CONFIG_BPF_STREAM_PARSER)", "4.14", func() error { return features.HaveMapType(ebpf.SockMap) }},
		{"per-CPU hash maps", "4.6", func() error { return features.HaveMapType(ebpf.PerCPUHash) }},
		{"sk_lookup programs", "5.9", func() error { return features.HaveProgramType(ebpf.SkLookup) }},
	} {
		err := f.probe()
		if errors.Is(err, ebpf.ErrNotSupported) {
			return &FeatureError{Feature: f.name, Since: f.since, Err: err}
		}
		if err != nil {
			return translate("look for "+f.name, err)
		}
	}
	return nil
}
