package appliance

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/proxy/ktls"
	"github.com/nfseal/nfseal/xtsengine/xts"
)

// Features lists what the daemon does, and what it does not and why. Nothing stands there as on that
// is not.
func (a *Appliance) Features() []api.Feature {
	list := []api.Feature{
		atRestFeature(),
		rootFeature(a.dir.root),
		a.transitFeature(),
		{Name: "OCSP", On: true, Detail: "stapled, responder at " + a.ocspURL()},
		a.plaintextFeature(),
		a.squashFeature(),
	}
	for _, u := range a.units {
		if v := u.view(); v.state == UnitServing {
			list = append(list, v.direct, v.ring)
			break // the units of one host share its kernel
		}
	}
	list = append(list, a.lockedMemoryFeature(), a.idlePollFeature())
	list = append(list, a.forwardingFeatures()...)
	for _, p := range a.edge.Parts() {
		list = append(list, api.Feature{Name: p.Name, On: p.On, Detail: p.Detail})
	}
	return append(list, a.o.hostFeatures()...)
}

func atRestFeature() api.Feature {
	return api.Feature{Name: "encryption at rest", On: true, Detail: "XTS-AES-256, " + xts.PathName()}
}

func rootFeature(root *rootKey) api.Feature {
	return api.Feature{Name: "root of trust", On: true, Detail: root.about}
}

// hostFeatures are those that depend on the host and the options alone.
func (o *Options) hostFeatures() []api.Feature {
	return []api.Feature{slicesFeature(), monitorFeature(), dumpFeature(), o.kernelTLSFeature()}
}

func (a *Appliance) transitFeature() api.Feature {
	f := api.Feature{Name: "encryption in transit", On: true, Detail: "TLS 1.2 and 1.3, ECDHE with AES-256-GCM only"}
	if a.o.OnlyTLS12 {
		f.Detail = "TLS 1.2, as -tls12-only asks, ECDHE with AES-256-GCM only"
	}
	if a.o.ClientCAFile != "" {
		f.Detail += "; clients need a certificate from " + a.o.ClientCAFile
	}
	return f
}

func (a *Appliance) plaintextFeature() api.Feature {
	f := api.Feature{Name: "plaintext NFS", On: a.o.AllowPlaintext}
	f.Detail = "refused with NFS4ERR_ACCESS"
	if f.On {
		f.Detail = "served, as -allow-plaintext asks: whoever reads the network reads the files"
	}
	return f
}

func (a *Appliance) squashFeature() api.Feature {
	f := api.Feature{Name: "squash", On: a.o.Squash != "none", Detail: "uid 0 of a client is uid 0 here"}
	switch a.o.Squash {
	case "root":
		f.Detail = "uid 0 of a client is nobody here"
	case "all":
		f.Detail = "everybody is nobody here"
	}
	return f
}

func (a *Appliance) lockedMemoryFeature() api.Feature {
	f := api.Feature{Name: "keys in locked memory", On: a.catalogKey.Locked(), Detail: "mlock"}
	if !f.On {
		f.Detail = "the limit of locked memory (RLIMIT_MEMLOCK) is too small: keys may be swapped out"
	}
	return f
}

func (a *Appliance) idlePollFeature() api.Feature {
	f := api.Feature{Name: "idle polling", On: a.keeper != nil, Detail: "idle processors may be halted"}
	switch {
	case f.On:
		f.Detail = "idle processors poll while clients wait for each answer in turn; -idle-poll=false leaves them alone"
	case a.keeperErr != nil:
		f.Detail = "idle processors may be halted, whatever -idle-poll asks: " + a.keeperErr.Error()
	}
	return f
}

func dumpFeature() api.Feature {
	f := api.Feature{Name: "no core dumps", Detail: "the process can be dumped: it was not started as nfseald"}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err == nil && dumpable == 0 {
		f.On, f.Detail = true, "not dumpable, not traceable"
	}
	return f
}

// kernelTLSFeature says who carries TLS sessions, and why.
func (o *Options) kernelTLSFeature() api.Feature {
	f := api.Feature{Name: "kernel TLS"}
	if o.KTLS == ktls.UseOff {
		f.Detail = "off, as -ktls asks: TLS in user space"
		return f
	}
	support := ktls.Probe()
	f.On, f.Detail = support.Err == nil && (o.KTLS == ktls.UseOn || !support.Slow), support.String()
	return f
}

// Harden keeps the process's memory, and so the keys in it, from dumps and debuggers.
func Harden() error {
	dumpErr := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	coreErr := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if err := errors.Join(dumpErr, coreErr); err != nil {
		return fmt.Errorf("appliance: the process can't be kept from dumps: %w", err)
	}
	return nil
}
