package trust

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// What a token can refuse.
var (
	// ErrToken11 says that there is no such token, or that it does not answer.
	ErrToken11 = errors.New("the PKCS#11 token can't be used")
	// ErrPIN says that the token does not take the PIN. It is never tried twice: a token locks itself after a few.
	ErrPIN = errors.New("the PIN is refused by the PKCS#11 token")
	// ErrTokenKey says that the token has no such key, or one that is not fit.
	ErrTokenKey = errors.New("the key in the PKCS#11 token can't be used")
)

// pkcs11Place is where a key is: in a token that a module, a shared library, speaks to.
type pkcs11Place struct {
	module string // its path
	token  string // its label, 32 bytes at most
	object string // the label of the key
}

// parsePKCS11 takes MODULE?token=LABEL&object=LABEL apart.
func parsePKCS11(text string) (pkcs11Place, error) {
	module, query, _ := strings.Cut(text, "?")
	values, err := url.ParseQuery(query)
	p := pkcs11Place{module: module, token: values.Get("token"), object: values.Get("object")}
	if err != nil || !filepath.IsAbs(module) || len(values) != 2 || p.token == "" || len(p.token) > 32 || p.object == "" || len(p.object) > 128 {
		return p, fmt.Errorf("%q is no key in a token: write pkcs11:MODULE?token=LABEL&object=LABEL, as pkcs11:/usr/lib/softhsm/libsofthsm2.so?token=nfseal&object=root", text)
	}
	return p, nil
}
