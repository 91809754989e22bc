package appliance

import "net/http"

// caPath is where the responder gives the CA's certificate to everybody. It comes over a wire that anybody may have
// changed: who takes it from there compares its fingerprint with that of the file in the data directory, which the
// console of an image shows.
const caPath = "/ca.pem"

func (a *Appliance) giveCA(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(a.authority.PEM()) // who has gone needs none
}
