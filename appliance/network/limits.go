package network

import "time"

const (
	// Protocol marks what is ours. The numbers that are taken are in /etc/iproute2/rt_protos.
	Protocol = 78
	// TableBase and the index of an interface make the number of its routing table.
	TableBase = 0x6e660000
	// RulePriority is that of our rules: before the main table's, 32766.
	RulePriority = 10780

	// MaxAddresses bounds a Desired.
	MaxAddresses = 4096
	// The MTUs that can be wanted: IPv6 needs 1280, and IP has no larger packets than 65535 bytes.
	minMTU = 1280
	maxMTU = 65535

	// DefaultTick is the time between two looks without a notice.
	DefaultTick = 30 * time.Second
	// A pass waits for minPause after a notice, since they come in groups, and up to maxPause when
	// it has to do the same again and again.
	minPause = 20 * time.Millisecond
	maxPause = 5 * time.Second
	// maxRounds bounds how often one pass looks again after having done something.
	maxRounds = 4
	// maxDumps bounds how often a list is read anew because it changed meanwhile.
	maxDumps = 10
	// netlinkTimeout bounds each request.
	netlinkTimeout = 5 * time.Second
	// noticeBytes is the receive buffer for notices; when it overflows, that is a notice too.
	noticeBytes = 1 << 20

	// keptDrops is how many of the last refused packets are kept to be shown, and topSources how many
	// of those who were refused most.
	keptDrops  = 64
	topSources = 10
	// maxMeasure bounds one measurement of the programs.
	maxMeasure = 10 * time.Second
)
