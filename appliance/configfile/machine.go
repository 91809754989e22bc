package configfile

import "strings"

// A Machine is how the image's machine is to be. What is left out stays as it is.
type Machine struct {
	Hostname    string
	Disk        string // serial:… or wwid:…
	TimeServers []string
	Interfaces  []Interface
}

// An Interface has fixed addresses.
type Interface struct {
	Name      string // "" if MAC has it
	MAC       string
	Addresses []string // each with the length of its prefix
	Gateway   string
	DNS       []string
	MTU       string
}

func machine(entries []entry) Machine {
	var m Machine
	for _, e := range entries {
		switch e.key.Name {
		case "hostname":
			m.Hostname = e.values[0].text
		case "disk":
			m.Disk = e.values[0].text
		case "time-servers":
			m.TimeServers = e.texts()
		case "interfaces":
			for _, section := range e.sections {
				m.Interfaces = append(m.Interfaces, networkCard(section))
			}
		}
	}
	return m
}

func networkCard(section []entry) Interface {
	var n Interface
	for _, e := range section {
		switch e.key.Name {
		case "interface":
			if mac, ok := strings.CutPrefix(e.values[0].text, "mac="); ok {
				n.MAC = mac
			} else {
				n.Name = e.values[0].text
			}
		case "addresses":
			n.Addresses = e.texts()
		case "gateway":
			n.Gateway = e.values[0].text
		case "dns":
			n.DNS = e.texts()
		case "mtu":
			n.MTU = e.values[0].text
		}
	}
	return n
}
