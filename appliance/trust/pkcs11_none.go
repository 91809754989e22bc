//go:build !pkcs11

package trust

import "errors"

func openPKCS11(*Options) (Root, error) {
	return nil, errors.New("this build of nfseald speaks to no PKCS#11 token, which takes C: build one with CGO_ENABLED=1 go build -tags pkcs11 ./cmd/nfseald, or make build-pkcs11")
}
