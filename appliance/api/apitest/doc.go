// Package apitest has parts of an api.Backend for the tests of the API and of the programs that
// speak it. They keep what they are told in memory and follow the same rules as the appliance.
package apitest
