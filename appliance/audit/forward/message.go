package forward

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/leodido/go-syslog/v4/rfc5424"

	"github.com/nfseal/nfseal/appliance/audit"
)

// RFC 5424 §6.2.1: facility "log audit", severities notice and, of what was refused or failed, warning.
const (
	facility        = 13
	severityNotice  = 5
	severityWarning = 4
)

const (
	appName = "nfseald"
	// maxMessageID is from RFC 5424 §6.2.7, and so are the characters.
	maxMessageID = 32
	// timestampForm has the microseconds that RFC 5424 §6.2.3 allows.
	timestampForm = "2006-01-02T15:04:05.000000Z07:00"
	// maxSequenceID is from RFC 5424 §7.3.1, after which the number is 1 again.
	maxSequenceID = 1<<31 - 1
)

// message is the record as a message of syslog (RFC 5424 §6): MSG is its line in the log, so that a receiver that keeps it has what
// it takes to see whether the chain is whole.
func message(e *audit.Entry) (string, error) {
	return compose(&e.Record, string(bytes.TrimSuffix(e.Line, []byte("\n"))))
}

// stub stands for a record that is too long for a datagram: what it was, and where it is in the log.
func stub(e *audit.Entry) (string, error) {
	text, err := json.Marshal(map[string]any{
		"hash": e.After.Hash, "sequence": e.Record.Sequence, "eventName": e.Record.Name, "tooLongForDatagram": true,
	})
	if err != nil {
		return "", err
	}
	return compose(&e.Record, string(text))
}

func compose(r *audit.Record, text string) (string, error) {
	severity := severityNotice
	if r.ErrorCode != "" {
		severity = severityWarning
	}
	m := &rfc5424.SyslogMessage{}
	m.SetPriority(uint8(facility*8 + severity))
	m.SetVersion(1)
	m.SetTimestamp(r.Time.Format(timestampForm))
	m.SetHostname(r.Host) // one that is none is left out
	m.SetAppname(appName)
	m.SetMsgID(r.Name[:min(len(r.Name), maxMessageID)])
	m.SetParameter("meta", "sequenceId", strconv.FormatUint((r.Sequence-1)%maxSequenceID+1, 10))
	m.SetMessage(text)
	line, err := m.String()
	if err != nil || m.Message == nil {
		return "", fmt.Errorf("record %d is no message of syslog", r.Sequence)
	}
	return line, nil
}

// frame puts the length before a message: RFC 6587 §3.4.1, RFC 5425 §4.3.
func frame(to []byte, message string) []byte {
	to = strconv.AppendInt(to, int64(len(message)), 10)
	to = append(to, ' ')
	return append(to, message...)
}
