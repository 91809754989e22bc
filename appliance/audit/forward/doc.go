// Package forward sends the records of an audit log elsewhere: to a receiver of syslog (RFC 5424) over a Unix datagram
// socket, UDP, TCP (RFC 6587 §3.4.1) or TLS (RFC 5425), and to a file.
//
// A Forwarder follows the log itself, what is durable of it, from the position in a cursor file. So who appends a record
// waits for nobody, nothing is lost while a receiver is away, and memory is bounded whatever is outstanding. Each record
// is sent at least once; each carries its number and its hash, by which doubles are known.
//
// No transport of syslog says that a message was kept. A record counts as delivered, and the cursor goes behind it, when
// it is on stable storage (a file), or when the receiver's system has acknowledged its bytes and the connection has lived on for
// settleTime. When a connection ends earlier, what was not delivered is sent again over the next. Over UDP nothing is
// acknowledged.
//
// Each Forwarder has one goroutine, and one more for each stream connection, which reads to see its end. Close waits for both.
package forward
