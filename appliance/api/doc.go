// Package api is the control plane over HTTP, on a unix socket in the data directory. Who may open
// the socket may do everything: there is no authentication beyond its mode, 0600, and the caller's
// credentials (SO_PEERCRED) go into the audit log.
//
// # What is answered
//
//	       /2015-02-01/…                   EFS, rest-json: efsRoutes has its operations
//	PUT    /nfseal/v1/file-systems/{id}/quota  Quota
//	PUT    /nfseal/v1/units/{id}/volume    VolumeSize, answered with one
//	POST, GET /nfseal/v1/subnets           Subnet; DELETE …/{id}
//	POST, GET /nfseal/v1/security-groups   SecurityGroup; DELETE …/{id}
//	POST   …/{id}/rules                    GroupRule; DELETE …/{id}/rules/{rule}
//	GET    /nfseal/v1/network              Network as JSON
//	GET    /healthz                        200 when every unit serves, else 503
//	GET    /metrics                        Prometheus text
//	GET    /nfseal/v1/status               Status as JSON
//	GET    /nfseal/v1/compliance           a list of Finding
//	POST   /nfseal/v1/file-systems/{id}/check   Check
//	POST   /nfseal/v1/file-systems/{id}/scrub   ScrubRequest, answered with a Scrub
//	GET    /nfseal/v1/file-systems/{id}/scrub   Scrub
//	POST   /nfseal/v1/file-systems/{id}/data-keys   DataKeyRequest, answered with DataKeys
//	GET    /nfseal/v1/file-systems/{id}/data-keys   DataKeys
//
//	POST   /                               KMS, JSON 1.1: X-Amz-Target says which operation
//	POST   /                               STS, a form, at the front door only
//
// The EFS operations take and give the shapes of the EFS API, version 2015-02-01. What that API has and an
// appliance can't do is refused with an error of the API; nothing answers an invented success.
// Errors have the body {"ErrorCode","Message"} and the header X-Amzn-Errortype, as the SDKs read
// them.
//
// # Front door
//
// The operations of EFS, KMS and STS are reached from afar too, over HTTPS, signed with an access key (iam.Signature).
// Who signed is the caller of the operation; its policies, and that of the file system, say whether it may.
// A key's own policy comes first: the caller's policies speak only if it lets its account's.
// Calls of a principal are throttled. Whoever can't prove who it is gets the error that AWS has for it, a
// line in the log, and no record in the audit log, which could be filled so.
//
// # Audit
//
// Each EFS call, each on subnets and security groups, check and change of a scrub is recorded before it is carried out,
// and once more if it fails. A call that can't
// be recorded is not carried out. The other paths only tell how the daemon is; they are not
// recorded.
//
// # Goroutines
//
// Server.Serve runs in its caller's goroutine; net/http has one for each connection, of which there
// are at most maxConnections. Close waits for all of them.
package api
