// Command workload is what end-to-end tests do on a mounted file system, from inside the client:
//
//	workload ops DIR [NAME...]   file operations of all kinds, each checked against POSIX
//	workload fill DIR            writes until there is no space, deletes, writes again
//	workload brim DIR            the same with files that are closed and not synced
//	workload make DIR N          makes N small files
//	workload list DIR            prints a directory's names, one a line, in the server's order
//	workload once DIR SIGNAL     operations that fail if they are carried out twice, when there is a file SIGNAL
//	workload child FILE cut      makes a file three bytes long, by its name
//	workload child FILE setlk    tries for a lock of a range, and lets it go
//	workload child FILE hold     waits for that lock, prints "locked", and keeps it until it is killed
//	workload hammer DIR SECONDS SEED CRASHES
//	                             random operations against a model in memory, then compares all; the
//	                             server may be killed so often meanwhile
//
//	workload durable DIR SEED MINOR COUNT
//	                             COUNT operations, or for ever if 0, that a minor version has, each of which is durable
//	                             when its number is printed
//	workload durable-check DIR SEED MINOR DONE AHEAD
//	                             whether DIR holds what it must after DONE of these, or up to AHEAD more
//	workload overwrite FILE FIRST LAST WAY
//	                             rounds of large writes over a file, WAY being direct or buffered, each stable when its number is printed
//	workload overwritten FILE ROUND WAY
//	                             whether all of the file is of that round or a later one
//
// Each check is a function that returns what is wrong. `ops` prints a line for each, and ends with
// status 1 if any failed. The checks are themselves tested on the local file system.
package main
