// Package appliance joins the two worlds: the control plane (catalog, keys, certificates, API,
// audit) and the data plane (volumes, file systems, NFS). It holds units and starts and stops them,
// makes what is what the catalog says, and finds the file system for each connection.
//
// # Data directory
//
//	<data>/
//	  nfseal.json      format of the directory, id of the root key and, unless a key file is the root key,
//	                   who keeps it, each with the root key wrapped; when it was made; while it is moved
//	                   to another root of trust (MoveRoot), the next one too
//	  root.key         0600, the root of trust by default (Options.Root names others)
//	  lock             pid of the daemon that has the directory
//	  api.sock         0600, the API
//	  takeover         0600, where a successor asks for the steered sockets
//	  audit/           hash-chained log
//	  catalog/         key.json: the catalog's key, wrapped; store/: Pebble over cryptfs
//	  pki/             certificate authority
//	  tls/             certificate of the API's front door, its key sealed
//	  units/<uuid>/
//	    unit.json      format and UUID: the identity, which names no host
//	    volume         the encrypted blocks
//	    tls/           server certificate, its key sealed
//	    fs/<id>/
//	      keys.json    the file system's two keys, wrapped, and what describes it; while it gets new ones, four
//	      meta/        Pebble over cryptfs
//
// A daemon holds flock(2) on the directory itself, so that a start that is refused writes nothing;
// the file lock only tells others who has it.
//
// # Starting
//
// Everything that can be refused (a missing or wrong key file, a volume that is shorter than it
// says, any newer format) is checked before the first byte is written. Then catalog and units are
// opened and reconciled: a file system that was being made is made anew or removed, one that was
// being deleted is removed, one that came with a unit from elsewhere is taken up.
//
// # Creating and deleting a file system
//
//	create: catalog record (creating) → keys.json → metadata store → record (available) → served
//	delete: record (deleting) → no longer served → keys.json destroyed → blocks freed →
//	        directory removed → record removed
//
// A crash between any two steps is brought to an end by the next start. The keys go first: what is
// left of a file system after that is noise.
//
// New data keys (rotation.go):
//
//	keys.json with both pairs → all new under the new pair → content, metadata → record →
//	keys.json with the new pair, the one before overwritten
//
// # Units
//
// A Unit starts and stops while the appliance runs. When something in it fails for good (the device
// is fenced or poisoned, a metadata store breaks, the term of ownership ends) the unit stops, says
// so, and the others go on.
//
// # Locks and goroutines
//
// Order: Appliance.admin (one create, delete, start or stop at a time) → Unit.mu → Appliance.mu
// (the table that connections are resolved by; a leaf). A Unit owns one goroutine that waits for a
// fatal error or the end of its term, and stops the unit, and one for each scrub and each rotation of data keys; these take no
// lock of the Unit, which waits for them before it closes their file system. Appliance.Run owns those of the servers.
package appliance
