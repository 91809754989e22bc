package gate

import "fmt"

// A Verdict is what the gate decided about a packet, and why. layout.h describes each.
type Verdict uint8

// The verdicts. Those from DropMalformed on are drops.
const (
	PassRule      = Verdict(programVerdictPASS_RULE)
	PassOpen      = Verdict(programVerdictPASS_OPEN)
	PassReply     = Verdict(programVerdictPASS_REPLY)
	PassFragment  = Verdict(programVerdictPASS_FRAGMENT)
	PassPMTU      = Verdict(programVerdictPASS_PMTU)
	PassNeighbour = Verdict(programVerdictPASS_NEIGHBOUR)
	PassDHCP      = Verdict(programVerdictPASS_DHCP)
	PassEcho      = Verdict(programVerdictPASS_ECHO)
	SentCookie    = Verdict(programVerdictSENT_COOKIE)
	PassOther     = Verdict(programVerdictPASS_OTHER)
	DropMalformed = Verdict(programVerdictDROP_MALFORMED)
	DropEtherType = Verdict(programVerdictDROP_ETHERTYPE)
	DropHeaders   = Verdict(programVerdictDROP_HEADERS)
	DropProtocol  = Verdict(programVerdictDROP_PROTOCOL)
	DropAddress   = Verdict(programVerdictDROP_ADDRESS)
	DropSource    = Verdict(programVerdictDROP_SOURCE)
	DropPort      = Verdict(programVerdictDROP_PORT)
	DropRate      = Verdict(programVerdictDROP_RATE)
	DropFragment  = Verdict(programVerdictDROP_FRAGMENT)
	DropICMP      = Verdict(programVerdictDROP_ICMP)
)

var verdictNames = map[Verdict]string{
	PassRule: "pass-rule", PassOpen: "pass-open", PassReply: "pass-reply", PassFragment: "pass-fragment",
	PassPMTU: "pass-pmtu", PassNeighbour: "pass-neighbour", PassDHCP: "pass-dhcp", PassEcho: "pass-echo",
	SentCookie: "sent-cookie", PassOther: "pass-other", DropMalformed: "drop-malformed", DropEtherType: "drop-ethertype",
	DropHeaders: "drop-headers", DropProtocol: "drop-protocol", DropAddress: "drop-address",
	DropSource: "drop-source", DropPort: "drop-port", DropRate: "drop-rate", DropFragment: "drop-fragment",
	DropICMP: "drop-icmp",
}

// String is a name for tables and metrics, of lower-case letters and hyphens.
func (v Verdict) String() string {
	if name, ok := verdictNames[v]; ok {
		return name
	}
	return fmt.Sprintf("verdict-%d", uint8(v))
}

// Dropped says whether the packet was refused.
func (v Verdict) Dropped() bool { return v >= DropMalformed }

// Verdicts lists all there are, in order.
func Verdicts() []Verdict {
	var all []Verdict
	for v := range Verdict(verdicts) {
		if _, ok := verdictNames[v]; ok {
			all = append(all, v)
		}
	}
	return all
}
