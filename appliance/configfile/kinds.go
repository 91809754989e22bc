package configfile

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Kind is a kind of values.
type Kind struct {
	// Name says what is wanted, as "a size such as 512MiB".
	Name string
	// take gives the text for a flag. What is wrong with a value it says in words that go on after the value.
	take func(string) (string, error)
}

// matching makes a kind of texts that an expression matches as a whole.
func matching(name, expression string) *Kind {
	whole := regexp.MustCompile(`^(?:` + expression + `)$`)
	return &Kind{Name: name, take: func(s string) (string, error) {
		if !whole.MatchString(s) {
			return "", errors.New("is not " + name)
		}
		return s, nil
	}}
}

// oneOf makes a kind of some words.
func oneOf(words ...string) *Kind {
	name := "one of " + strings.Join(words, ", ")
	return &Kind{Name: name, take: func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", errors.New("is not " + name)
		}
		return s, nil
	}}
}

// number makes a kind of whole numbers, both ends included.
func number(least, most int64) *Kind {
	name := fmt.Sprintf("a whole number from %d to %d", least, most)
	return &Kind{Name: name, take: func(s string) (string, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < least || n > most {
			return "", errors.New("is not " + name)
		}
		return s, nil
	}}
}

var durationForm = regexp.MustCompile(`^([1-9][0-9]{0,5})(s|m|h)$`)

// duration makes a kind of times, both ends, in seconds, included. Flags have seconds.
func duration(least, most int64) *Kind {
	name := fmt.Sprintf("a time such as %ds, from %ds to %ds", max(least, 10), least, most)
	return &Kind{Name: name, take: func(s string) (string, error) {
		m := durationForm.FindStringSubmatch(s)
		if m == nil {
			return "", fmt.Errorf("is not %s; units are s, m and h", name)
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			return "", errors.New("is not " + name)
		}
		n *= map[string]int64{"s": 1, "m": 60, "h": 3600}[m[2]]
		if n < least || n > most {
			return "", errors.New("is not " + name)
		}
		return strconv.FormatInt(n, 10), nil
	}}
}

// parsed makes a kind of what parse takes.
func parsed[T any](name string, parse func(string) (T, error)) *Kind {
	return &Kind{Name: name, take: func(s string) (string, error) {
		if _, err := parse(s); err != nil {
			return "", errors.New("is not " + name)
		}
		return s, nil
	}}
}

var (
	yesNo = &Kind{Name: "true or false", take: func(s string) (string, error) {
		if s != "true" && s != "false" {
			return "", errors.New("is not true or false, in small letters")
		}
		return s, nil
	}}
	size = &Kind{Name: "a size such as 512MiB, in KiB, MiB, GiB or TiB", take: takeSize}
	path = &Kind{Name: "an absolute path such as /etc/nfseal/ca.pem", take: func(s string) (string, error) {
		if !filepath.IsAbs(s) || strings.ContainsRune(s, 0) {
			return "", errors.New("is not an absolute path, which begins with /")
		}
		return s, nil
	}}
	pcr           = number(0, 23)
	address       = parsed("an IP address", netip.ParseAddr)
	prefix        = parsed("an address with the length of its prefix, such as 192.0.2.0/24", netip.ParsePrefix)
	hostPort      = parsed("an address host:port in quotes, such as \":2049\"", splitPort)
	hostPortOrOff = parsed("an address host:port in quotes, such as \":2051\", or \"off\"", func(s string) (string, error) {
		if s == "off" {
			return s, nil
		}
		return splitPort(s)
	})
	host             = matching("a name or an address of a host", `[A-Za-z0-9_.:\[\]-]{1,253}`)
	hostName         = matching("a name of letters, digits, hyphens and dots, of at most 64", `[A-Za-z0-9](?:[A-Za-z0-9.-]{0,62}[A-Za-z0-9])?`)
	diskChoice       = matching("a disk by serial:… or wwid:…", `(?:serial|wwid):\S.{0,127}`)
	label            = matching("a word of letters, digits and hyphens", `[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?`)
	rootOfTrust      = matching("a root of trust such as file:PATH, passphrase:PATH, tpm:/dev/tpmrm0, vault:https://HOST/MOUNT/KEY, pkcs11:MODULE?token=LABEL&object=LABEL or recovery:PATH", `(?:file|passphrase|tpm|vault|pkcs11|recovery):.+`)
	syslogReceiver   = matching("a receiver of syslog: unix:/dev/log, udp:HOST:PORT, tcp:HOST:PORT or tls:HOST:PORT", `unix:/.+|(?:udp|tcp|tls):.+:[0-9]{1,5}`)
	issuer           = matching("an issuer https://HOST/PATH", `https://[^\s,=?#*]{1,247}`)
	audience         = matching("an audience, without commas, = and spaces", `[^\s,=]{1,255}`)
	fileSystem       = matching("a file system such as fs-0123456789abcdef0", `fs-[0-9a-f]{8,40}`)
	networkInterface = matching("an interface by its name, mac=… or pci=…", `(?:mac=|pci=)?[A-Za-z0-9_.:@-]{1,64}`)
	openPort         = matching("a port such as tcp/22 or udp/123", `(?:tcp|udp)/[1-9][0-9]{0,4}`)
	pace             = matching("connections a second and a burst, such as 100/500", `[0-9]{1,9}(?:\.[0-9]{1,6})?/[1-9][0-9]{0,8}`)
)

func splitPort(s string) (string, error) {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", err
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return s, err
}

var sizeForm = regexp.MustCompile(`^[1-9][0-9]{0,12}(?:KiB|MiB|GiB|TiB)$`)

// takeSize wants the unit, and the one whose meaning is beyond doubt.
func takeSize(s string) (string, error) {
	switch {
	case sizeForm.MatchString(s):
		return s, nil
	case regexp.MustCompile(`^[0-9]+$`).MatchString(s):
		return "", fmt.Errorf("has no unit: write %sMiB or %sGiB", s, s)
	case regexp.MustCompile(`^[0-9]+ ?(?i:[kmgt]i?b?|b)$`).MatchString(s):
		return "", errors.New("is in a unit that means different things to different programs: write KiB, MiB, GiB or TiB, each 1024 times the one before")
	}
	return "", errors.New("is not a size such as 512MiB, in KiB, MiB, GiB or TiB")
}

func mountTarget(v map[string]string) string { return v["address"] + "=" + v["file-system"] }

func identityProvider(v map[string]string) string {
	return v["issuer"] + "," + v["audiences"] + "=" + v["keys"]
}

func mountAddress(v map[string]string) string {
	text := v["interface"] + "," + v["address"]
	for _, name := range []string{"gateway", "mtu"} {
		if v[name] != "" {
			text += "," + name + "=" + v[name]
		}
	}
	if v["up"] == "true" {
		text += ",up"
	}
	return text
}
