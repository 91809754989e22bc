package ceiling

// Width is the size of the registers that the rounds work on, in bytes.
type Width int

// The widths there are.
const (
	XMM Width = 16 // AES-NI with AVX's three operands
	YMM Width = 32 // VAES with AVX2
	ZMM Width = 64 // VAES with AVX-512
)

const (
	// roundsPerBlock are AES-256's.
	roundsPerBlock = 14
	// registers are how many the assembly keeps in flight, more than any AES unit's latency.
	registers = 12
)

// Run does the rounds of AES-256 for at least n bytes of blocks, and returns for how many exactly.
// The processor must have the instructions; 0 where there is no assembly.
func Run(w Width, n int) (bytes int) {
	each := registers * int(w)
	groups := max((n+each-1)/each, 1)
	if !run(w, groups*roundsPerBlock) {
		return 0
	}
	return groups * each
}
