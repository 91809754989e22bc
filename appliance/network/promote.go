package network

import (
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of the kernel's interface for user space: where an interface's IPv4 settings are in its description,
// and which of them is promote_secondaries.
const (
	attrInetConf       = 1  // IFLA_INET_CONF
	promoteSecondaries = 20 // IPV4_DEVCONF_PROMOTE_SECONDARIES; the list that is read starts at 1
)

// promoting runs f while the interface lets the other addresses of a subnet live on when the first
// one is deleted.
func (k *kernel) promoting(link int, f func() error) error {
	set, err := k.promotes(link)
	if err != nil || set {
		return errors.Join(err, f())
	}
	if err := k.setPromotes(link, 1); err != nil {
		return err
	}
	return errors.Join(f(), k.setPromotes(link, 0))
}

func (k *kernel) promotes(link int) (bool, error) {
	req := k.request(unix.RTM_GETLINK, unix.NLM_F_ACK)
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index = int32(link)
	req.AddData(m)
	messages, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err != nil || len(messages) == 0 || len(messages[0]) < unix.SizeofIfInfomsg {
		return false, err
	}
	conf := messages[0][unix.SizeofIfInfomsg:]
	for _, kind := range []uint16{unix.IFLA_AF_SPEC, unix.AF_INET, attrInetConf} {
		attrs, err := nl.ParseRouteAttrAsMap(conf)
		if err != nil {
			return false, err
		}
		conf = attrs[kind].Value
	}
	at := 4 * (promoteSecondaries - 1)
	return len(conf) >= at+4 && nl.NativeEndian().Uint32(conf[at:]) != 0, nil
}

func (k *kernel) setPromotes(link int, value uint32) error {
	req := k.request(unix.RTM_SETLINK, unix.NLM_F_ACK)
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index = int32(link)
	req.AddData(m)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	conf := spec.AddRtAttr(unix.AF_INET, nil).AddRtAttr(attrInetConf, nil)
	conf.AddRtAttr(promoteSecondaries, nl.Uint32Attr(value))
	req.AddData(spec)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
