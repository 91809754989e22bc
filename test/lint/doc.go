// Package lint holds the house's rules as tests: who may import whom, and why; package comments;
// names; skips that say where the test does run; documents that name what is not built.
//
// gofmt, vet and staticcheck are programs: `make lint` runs them beside these tests.
package lint
