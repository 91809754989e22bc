package configfile

// A Key is one key of the file: a value, a list of values, a section of further keys or a list of those.
type Key struct {
	Name string
	Doc  string
	Kind *Kind // of the value, or of each; nil for a section
	List bool
	Keys []Key // of a section
	// Flag is the one of nfseald that it becomes; "" for what is not the daemon's.
	Flag string
	// join makes the flag's value of the values of a section in a list, by name.
	join func(map[string]string) string
	// separator makes one value for the flag of a list; without it the flag is given more than once.
	separator string
	// invert says that the flag means the opposite.
	invert bool
	// required is for keys of a section in a list.
	required bool
	// Example is a value as it stands in the file.
	Example string
}

// Keys are all that a file may have.
var Keys = []Key{
	{Name: machineKey, Doc: "The machine itself. The image alone follows this section, and the daemon passes it over.", Keys: []Key{
		{Name: "host-name", Kind: hostName, Example: "nfs1.example.com", Doc: "Name of the machine."},
		{Name: "disk", Kind: diskChoice, Example: "serial:S4EVNX0N", Doc: "The disk for the data, in place of the only empty one."},
		{Name: "time-servers", Kind: host, List: true, Example: "[ntp.example.com, 192.0.2.3]", Doc: "Servers of NTP, in place of those of DHCP and of Debian."},
		{Name: "interfaces", List: true, Doc: "Network cards with addresses of their own; all others ask DHCP.", Keys: []Key{
			{Name: "interface", Kind: networkInterface, required: true, Example: "mac=52:54:00:12:34:56", Doc: "The card, by name, mac=… or pci=…."},
			{Name: "addresses", Kind: prefix, List: true, Example: "[192.0.2.20/24]", Doc: "Its addresses, with the lengths of their prefixes. Without any it asks DHCP."},
			{Name: "gateways", Kind: address, List: true, Example: "[192.0.2.1]", Doc: "Default gateways, each in the prefix of an address."},
			{Name: "name-servers", Kind: address, List: true, Example: "[192.0.2.2]", Doc: "Servers of DNS."},
			{Name: "domains", Kind: hostName, List: true, Example: "[example.com]", Doc: "Domains in which names without a dot are looked for."},
			{Name: "mtu", Kind: number(576, 65535), Example: "9000", Doc: "MTU of the card."},
		}},
	}},
	{Name: "storage", Doc: "Where the daemon keeps what it has.", Keys: []Key{
		{Name: "data", Flag: "data", Kind: path, Example: "/var/lib/nfseal", Doc: "The data directory. The image has its own, on DATA."},
		{Name: "volume-size", Flag: "volume-size", Kind: size, Example: "100GiB", Doc: "Size of the volume of a new data directory."},
		{Name: "volume-device", Flag: "volume-device", Kind: path, Example: "/dev/disk/by-id/nvme-one", Doc: "An empty block device that becomes the volume of a new data directory, in place of volume-size."},
		{Name: "memory", Flag: "memory", Kind: size, Example: "2GiB", Doc: "Memory to keep to, caches above all."},
	}},
	{Name: "keys", Doc: "Who keeps the root key, and how often it is looked whether keys can be used.", Keys: []Key{
		{Name: "root", Flag: "root", Kind: rootOfTrust, Example: "tpm:/dev/tpmrm0", Doc: "The root of trust, as nfseald -root has it."},
		{Name: "tpm-pcrs", Flag: "tpm-pcrs", Kind: pcr, List: true, separator: "+", Example: "[7, 11]", Doc: "Registers that a new root key is sealed to."},
		{Name: "tpm-policy-key", Flag: "tpm-policy-key", Kind: path, Example: "/etc/nfseal/tpm-policy.pem", Doc: "Public key whose owner signs for systems that a new root key is sealed for."},
		{Name: "tpm-policy-signatures", Flag: "tpm-policy-signatures", Kind: path, Example: "/run/systemd/tpm2-pcr-signature.json", Doc: "What was signed for the system that runs."},
		{Name: "vault-token-file", Flag: "vault-token-file", Kind: path, Example: "/etc/nfseal/vault-token", Doc: "File of mode 0600 with the token for a root of trust in Vault."},
		{Name: "vault-ca", Flag: "vault-ca", Kind: path, Example: "/etc/nfseal/vault-ca.pem", Doc: "CAs that Vault's certificate may come from."},
		{Name: "pkcs11-pin-file", Flag: "pkcs11-pin-file", Kind: path, Example: "/etc/nfseal/pin", Doc: "File of mode 0600 with the PIN of the user of the token for a root of trust in PKCS#11."},
		{Name: "check-every", Flag: "key-check", Kind: duration(1, 60), Example: "10s", Doc: "How often it is looked whether the KMS keys of file systems can be used."},
	}},
	{Name: "nfs", Doc: "What clients mount.", Keys: []Key{
		{Name: "listen", Flag: "listen", Kind: hostPort, List: true, Example: `[":2049"]`, Doc: "Addresses at which NFS is served."},
		{Name: "advertise", Flag: "advertise", Kind: host, List: true, Example: "[nfs.example.com, 192.0.2.20]", Doc: "Addresses or names of this machine as clients know it."},
		{Name: "region", Flag: "region", Kind: label, Example: "local-1", Doc: "Region in DNS names and ARNs."},
		{Name: "suffix", Flag: "suffix", Kind: host, Example: "nfseal.internal", Doc: "DNS suffix: names are fs-….efs.<region>.<suffix>."},
		{Name: "squash", Flag: "squash", Kind: oneOf("none", "root", "all"), Example: "root", Doc: "Whose requests are made anonymous."},
		{Name: "id-domain", Flag: "id-domain", Kind: host, Example: "example.com", Doc: "Domain of owners that clients send as NUMBER@domain, beside numbers alone."},
		{Name: "lease", Flag: "lease", Kind: duration(1, 3600), Example: "15s", Doc: "NFS lease."},
		{Name: "grace", Flag: "grace", Kind: duration(1, 3600), Example: "20s", Doc: "NFS grace period after a restart."},
		{Name: "delegations", Flag: "no-delegations", Kind: yesNo, invert: true, Example: "false", Doc: "Whether clients get delegations."},
		{Name: "idle-poll", Flag: "idle-poll", Kind: yesNo, Example: "true", Doc: "In a virtual machine, keep idle processors from being halted while clients wait for each answer in turn."},
		{Name: "allow-plaintext", Flag: "allow-plaintext", Kind: yesNo, Example: "false", Doc: "Serve clients without TLS too: whoever reads the network reads the files."},
		{Name: "mount-targets", Flag: "mount-target", List: true, join: mountTarget, Doc: "File systems at local addresses, for clients that name none.", Keys: []Key{
			{Name: "address", Kind: address, required: true, Example: "192.0.2.30", Doc: "The address."},
			{Name: "file-system", Kind: fileSystem, required: true, Example: "fs-0123456789abcdef0", Doc: "The file system."},
		}},
	}},
	{Name: "tls", Doc: "How connections are encrypted.", Keys: []Key{
		{Name: "only-1.2", Flag: "tls12-only", Kind: yesNo, Example: "true", Doc: "Speak TLS 1.2 only, not 1.3."},
		{Name: "kernel", Flag: "ktls", Kind: oneOf("auto", "on", "off"), Example: "auto", Doc: "Whether the kernel carries sessions; on refuses to start where it can't."},
		{Name: "client-ca", Flag: "client-ca", Kind: path, Example: "/etc/nfseal/clients.pem", Doc: "CAs that clients' certificates must come from."},
		{Name: "certificates", List: true, Doc: "Certificates of another CA for NFS, in place of the internal CA's.", Keys: []Key{
			{Name: "certificate", Flag: "tls-cert", Kind: path, required: true, Example: "/etc/nfseal/nfs.pem", Doc: "PEM file with the certificate, its chain behind it."},
			{Name: "key", Flag: "tls-key", Kind: path, required: true, Example: "/etc/nfseal/nfs.key", Doc: "PEM file of mode 0600 with its private key."},
		}},
	}},
	{Name: "ocsp", Doc: "The OCSP responder.", Keys: []Key{
		{Name: "listen", Flag: "ocsp-listen", Kind: hostPort, Example: `":2050"`, Doc: "Address of the responder."},
		{Name: "host", Flag: "ocsp-host", Kind: host, Example: "nfs.example.com", Doc: "Host, or host:port, at which clients reach it."},
	}},
	{Name: "api", Doc: "The API for signed calls.", Keys: []Key{
		{Name: "listen", Flag: "api-listen", Kind: hostPortOrOff, Example: `":2051"`, Doc: "Address of the API, or off."},
		{Name: "identity-providers", Flag: "oidc-provider", List: true, join: identityProvider, Doc: "Identity providers whose web identity tokens assume roles.", Keys: []Key{
			{Name: "issuer", Kind: issuer, required: true, Example: "https://issuer.example.com/cluster", Doc: "The issuer of the tokens."},
			{Name: "audiences", Kind: audience, List: true, required: true, Example: "[sts.amazonaws.com]", Doc: "Whom its tokens are for."},
			{Name: "keys", Kind: path, required: true, Example: "/etc/nfseal/jwks.json", Doc: "Its JSON Web Key Set, read again when it changes."},
		}},
	}},
	{Name: "network", Doc: "Addresses of mount targets, steering and the gate.", Keys: []Key{
		{Name: "mount-addresses", Flag: "mount-address", List: true, join: mountAddress, Doc: "Mount target addresses that are kept on interfaces.", Keys: []Key{
			{Name: "interface", Kind: networkInterface, required: true, Example: "mac=52:54:00:12:34:56", Doc: "The interface, by name, mac=… or pci=…."},
			{Name: "address", Kind: prefix, required: true, Example: "192.0.2.30/24", Doc: "The address, with the length of its prefix."},
			{Name: "gateway", Kind: address, Example: "192.0.2.1", Doc: "The gateway of answers."},
			{Name: "mtu", Kind: number(576, 65535), Example: "9000", Doc: "MTU of the interface."},
			{Name: "up", Kind: yesNo, Example: "true", Doc: "Set the interface up."},
		}},
		{Name: "steer", Flag: "steer", Kind: oneOf("auto", "off", "require"), Example: "auto", Doc: "Whether connections to mount-addresses are steered."},
		{Name: "workers", Flag: "workers", Kind: number(1, 1024), Example: "4", Doc: "Sockets that connections are steered to."},
		{Name: "gate", Flag: "gate", Kind: oneOf("auto", "off", "require"), Example: "auto", Doc: "Whether mount targets, and all of gate-interfaces, are guarded by the XDP gate."},
		{Name: "gate-interfaces", Flag: "gate-interface", Kind: networkInterface, List: true, Example: "[eth0]", Doc: "Interfaces that let in nothing but what is needed."},
		{Name: "allow-from", Flag: "allow-from", Kind: prefix, List: true, Example: "[192.0.2.0/24]", Doc: "Clients that the gate lets connect to mount-addresses."},
		{Name: "gate-open", Flag: "gate-open", Kind: openPort, List: true, Example: "[tcp/22]", Doc: "Ports that the gate lets everybody reach."},
		{Name: "gate-open-host", Flag: "gate-open-host", Kind: openPort, List: true, Example: "[tcp/2049]", Doc: "Ports that the gate lets everybody reach on addresses that are no mount target."},
		{Name: "new-connections", Flag: "gate-new-connections", Kind: pace, Example: "100/500", Doc: "New connections a second, and burst, that the gate lets one source open."},
		{Name: "cookies-above", Flag: "gate-cookies-above", Kind: number(1, 1<<30), Example: "10000", Doc: "New connections a second and processor above which the gate answers with SYN cookies."},
		{Name: "spread", Flag: "gate-spread", Kind: number(1, 4096), Example: "4", Doc: "Processors that the gate shares admitted packets out to."},
	}},
	{Name: "audit", Doc: "Where the records of the audit log are forwarded to.", Keys: []Key{
		{Name: "syslog", Flag: "audit-syslog", Kind: syslogReceiver, Example: "tls:logs.example.com:6514", Doc: "A receiver of syslog."},
		{Name: "syslog-ca", Flag: "audit-syslog-ca", Kind: path, Example: "/etc/nfseal/syslog-ca.pem", Doc: "CAs that the certificate of a receiver at tls:… may come from."},
		{Name: "file", Flag: "audit-file", Kind: path, Example: "/var/log/nfseal/audit.jsonl", Doc: "A file, one record a line."},
	}},
	{Name: "log", Doc: "What is logged.", Keys: []Key{
		{Name: "format", Flag: "log", Kind: oneOf("console", "json"), Example: "json", Doc: "For people or for machines."},
		{Name: "debug", Flag: "debug", Kind: yesNo, Example: "false", Doc: "Log more."},
	}},
}
