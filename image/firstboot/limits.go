package firstboot

const (
	// stateBytes is the size of STATE: keys and settings are some kilobytes.
	stateBytes = 256 << 20
	// dataShare of a disk is for DATA, the names and attributes, and dataShareOfLarge of a disk of which
	// that is more than dataBytes. The rest is the volume.
	dataShare        = 4
	dataShareOfLarge = 16
	dataBytes        = 16 << 30
	// minDiskBytes is the smallest disk that is taken.
	minDiskBytes = 2 << 30
	// edgeBytes at both ends of a disk are read to see whether it is empty; no file system, array or
	// volume manager keeps its signature further inside.
	edgeBytes = 4 << 20
	// chunkBytes are read at a time.
	chunkBytes = 256 << 10
	// samples of sampleBytes are read between them, evenly spread.
	samples     = 1024
	sampleBytes = 4096
)
