// Command guest is the agent of package uml. One static binary plays these parts:
//
//	guest launch FILE   on the host, as process 1 of a process and a mount namespace of its own:
//	                    makes everything read-only but the shared directory, then becomes
//	                    user-mode Linux (or, with the host's own kernel, the init below)
//	guest init          process 1 of the guest: mounts, modules, network; reaps; never returns
//	guest serve         its only child: runs the commands that arrive on the control wire
//
// and, because a process costs more there than elsewhere, tools that do much in one:
//
//	guest scan DIR                 describes a tree on standard output (package tree)
//	guest copy [-sync|-list] [-like DESCRIPTION] SRC DST
//	                               copies one; names each file once it is synced, or copied
//
// FILE is a Plan as JSON. The init finds it through the environment variable GUEST_PLAN, which is how
// a kernel passes words of its command line to its first process.
package main
