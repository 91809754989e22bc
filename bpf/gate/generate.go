package gate

//go:generate go tool bpf2go -tags linux -type verdict -type setting -type pace -type drop_event -type target -type span4 -type line4 -type node6 -type leaf6 -type sharing6 -type group6 -type low6 -type pair -type pair_key -type range -type counter -type talker -type source_key program gate.bpf.c -- -mcpu=v3 -O2 -g -Wall -Wextra -Werror
