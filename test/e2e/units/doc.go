// Command units serves a data directory as nfseald does, and stops and starts single units when it is
// told to on standard input. The daemon has that seam for what will move units between machines one
// day; no command of its own reaches it, so the end-to-end tests do with this.
//
//	units DATA IP
//	stop UUID     → ok, or what is wrong
//	start UUID    → ok, or what is wrong
package main
