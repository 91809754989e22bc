// Package oidctest signs web identity tokens as an identity provider does, for tests of those who believe them.
package oidctest
