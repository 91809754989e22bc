package steer

//go:generate go tool bpf2go -tags linux -type address -type counters -type config program steer.bpf.c -- -O2 -g -Wall -Wextra -Werror
