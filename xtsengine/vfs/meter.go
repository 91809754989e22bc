package vfs

// What metadata counts, in bytes: about what it takes in storage, and the same for every
// implementation and at every time.
const (
	meteredFile  = 512
	meteredName  = 64
	meteredXattr = 64
)

// MeteredFile is what a file itself counts, whatever its kind: 512 bytes and the target of a symbolic
// link, whose length is targetBytes.
func MeteredFile(targetBytes int) uint64 { return meteredFile + uint64(targetBytes) }

// MeteredName is what an entry of a directory counts: 64 bytes and those of the name.
func MeteredName(name string) uint64 { return meteredName + uint64(len(name)) }

// MeteredXattr is what an extended attribute counts: 64 bytes, those of the name and of the value.
func MeteredXattr(name string, valueBytes int) uint64 {
	return meteredXattr + uint64(len(name)) + uint64(valueBytes)
}

// ApplyQuota limits what st shows by its quota, when everything else is filled in.
func (st *StatFS) ApplyQuota() {
	if st.QuotaBytes == 0 {
		return
	}
	metered := st.MeteredDataBytes + st.MeteredMetadataBytes
	left := st.QuotaBytes - min(metered, st.QuotaBytes)
	st.TotalBytes = min(st.TotalBytes, st.QuotaBytes)
	st.FreeBytes = min(st.FreeBytes, left)
	st.AvailBytes = min(st.AvailBytes, left)
}
