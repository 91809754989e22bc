// Package sbom writes what the disk image is made of, as a document of SPDX 2.3 in JSON: Debian packages
// with the SHA-256 of their files, and the Go modules that are in our programs.
package sbom
