// Package wire is the NFSv4 protocol as it stands on the wire: types, numbers and their XDR
// encoding (RFC 8881, RFC 7862, RFC 8276). It is the only place that spells names the protocol's
// way.
package wire
