package appliance

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/audit/forward"
)

// auditCursor is where it is kept how much of the audit log has been forwarded.
func (l layout) auditCursor(kind forward.Kind) string {
	return filepath.Join(l.audit(), "forwarded-"+string(kind)+".json")
}

// openForwarding begins to send the audit log where it is to go.
func (a *Appliance) openForwarding() error {
	for _, kind := range a.o.AuditTo.Kinds() {
		f, err := forward.Start(forward.Options{
			Targets: a.o.AuditTo, Kind: kind, Dir: a.dir.audit(), Progress: a.audit.Progress, Cursor: a.dir.auditCursor(kind),
			Log: a.log.With(zap.String("component", "audit")),
		})
		if err != nil {
			return err
		}
		a.forwarders = append(a.forwarders, f)
	}
	return nil
}

func (a *Appliance) closeForwarding() {
	for _, f := range a.forwarders {
		f.Close()
	}
}

// forwardingFeatures say whether records reach where they are forwarded to.
func (a *Appliance) forwardingFeatures() []api.Feature {
	if len(a.forwarders) == 0 {
		return []api.Feature{{Name: "audit forwarding", Detail: "the audit log is kept here alone"}}
	}
	var list []api.Feature
	for _, f := range a.forwarders {
		s := f.Status()
		feature := api.Feature{Name: "audit to " + string(s.Kind), On: s.Connected && s.Err == nil, Detail: s.Where}
		if s.Waiting > 0 {
			feature.Detail += fmt.Sprintf(", %d records wait since %s", s.Waiting, s.Behind.UTC().Format(time.RFC3339))
		}
		switch {
		case s.Err != nil:
			feature.Detail += ": " + s.Err.Error()
		case !s.Connected:
			feature.Detail += ": it is just being opened"
		}
		list = append(list, feature)
	}
	return list
}

var (
	forwardConnectedDesc   = desc("audit_forward_connected", "1 if records of the audit log can be sent there now.", "to")
	forwardSentDesc        = desc("audit_forward_records_total", "Records of the audit log that were sent there, doubles too.", "to")
	forwardFailuresDesc    = desc("audit_forward_failures_total", "How often the way there broke or could not be opened.", "to")
	forwardWaitingDesc     = desc("audit_forward_waiting_records", "Records that wait to be sent there.", "to")
	forwardUndeliveredDesc = desc("audit_forward_undelivered_records", "Records that wait, or are not known to have arrived.", "to")
	forwardLagDesc         = desc("audit_forward_lag_seconds", "How long records have been waiting, 0 if none are.", "to")
)

// forwardCollector shows how forwarding stands.
type forwardCollector struct{ a *Appliance }

// Describe implements prometheus.Collector.
func (forwardCollector) Describe(ch chan<- *prometheus.Desc) {
	describe(ch, forwardConnectedDesc, forwardSentDesc, forwardFailuresDesc, forwardWaitingDesc, forwardUndeliveredDesc, forwardLagDesc)
}

// Collect implements prometheus.Collector.
func (c forwardCollector) Collect(ch chan<- prometheus.Metric) {
	gauge, count := samples(ch).gauge, samples(ch).count
	for _, f := range c.a.forwarders {
		s := f.Status()
		connected, lag := 0.0, 0.0
		if s.Connected {
			connected = 1
		}
		if !s.Behind.IsZero() {
			lag = time.Since(s.Behind).Seconds()
		}
		to := string(s.Kind)
		gauge(forwardConnectedDesc, connected, to)
		count(forwardSentDesc, s.Sent, to)
		count(forwardFailuresDesc, s.Failures, to)
		gauge(forwardWaitingDesc, float64(s.Waiting), to)
		gauge(forwardUndeliveredDesc, float64(s.Undelivered), to)
		gauge(forwardLagDesc, lag, to)
	}
}
