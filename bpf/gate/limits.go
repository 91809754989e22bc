package gate

// What the program's layout fixes. layout.h, rules.h and parse.h say the same; a test compares them.
const (
	halves        = 2
	verdicts      = 32
	maxOpenPorts  = 16
	lineBounds    = 16
	nodeKeys      = 8
	knownWords    = 1024
	knownBits     = 48 // before the bits that number a block of IPv6
	maxPairRanges = 64 // behind the first
	targetProbes  = 16
	flows         = 4096
	maxClasses    = 1<<16 - 1
	maxPolicies   = 1 << 16

	protocolTCP = 6
	protocolUDP = 17
)

// What we chose.
const (
	defaultMaxPrefixes  = 1 << 17
	defaultMaxTargets   = 1 << 10
	defaultMaxRules     = 1 << 12
	defaultMaxSources   = 1 << 16
	defaultMaxFragments = 1 << 12

	limitPrefixes  = 1 << 19 // the tree of rules.h has room for twice as many bounds
	limitTargets   = 1 << 16
	limitRules     = 1 << 16
	limitSources   = 1 << 22
	limitFragments = 1 << 20

	// addressesPerTarget bounds the addresses, over all targets.
	addressesPerTarget = 2

	seedTries = 256

	// pairsPerRule bounds what a policy admits from a class of sources, counted over all of both.
	pairsPerRule = 4

	// The segment sizes that a SYN cookie's answer offers: those of 1,500 byte packets.
	cookieMSS4 = 1460
	cookieMSS6 = 1440

	ringBytes        = 256 << 10
	defaultSample    = 256
	defaultEvents    = 100 // a second and CPU
	spreadQueue      = 2048
	maxSpread        = 1 << 10
	batch            = 1 << 12 // map elements a system call
	maxPerSecond     = 1e9
	maxBurst         = 1 << 30
	defaultEphemeral = "32768 60999"
)
