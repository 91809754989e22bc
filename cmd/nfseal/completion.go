package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// completions are the scripts that make shells complete: each asks `nfseal complete` for what can stand next.
var completions = map[string]string{
	"bash": `_nfseal() {
	local IFS=$'\n'
	COMPREPLY=($(compgen -W "$(nfseal complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _nfseal nfseal
`,
	"zsh": `#compdef nfseal
_nfseal() {
	local -a next
	next=(${(f)"$(nfseal complete "${(@)words[2,CURRENT-1]}" 2>/dev/null)"})
	compadd -a next || _files
}
compdef _nfseal nfseal
`,
	"fish": `function __nfseal_next
	set -l words (commandline -opc)
	nfseal complete $words[2..] 2>/dev/null
end
complete -c nfseal -a '(__nfseal_next)'
`,
}

func completion(_ context.Context, e *env, args []string) error {
	f := newFlags(e, "completion")
	given, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	script, known := completions[given[0]]
	if !known {
		return fmt.Errorf("%q is none of the shells bash, zsh and fish", given[0])
	}
	_, err = io.WriteString(e.stdout, script)
	return err
}

// complete prints what can stand behind the words that are given, one in a line.
func complete(_ context.Context, e *env, args []string) error {
	for _, word := range next(args) {
		fmt.Fprintln(e.stdout, word)
	}
	return nil
}

var flagPattern = regexp.MustCompile(`--[a-z][a-z-]*`)

// next are the words that commands have behind those in given; behind a whole command, its flags.
func next(given []string) []string {
	if c, _ := find(given); c != nil {
		return append(flagPattern.FindAllString(c.usage, -1), "--help")
	}
	var words []string
	for _, c := range commands() {
		rest := strings.Fields(c.name)
		if c.short != "" && len(rest) > len(given) && slices.Equal(rest[:len(given)], given) && !slices.Contains(words, rest[len(given)]) {
			words = append(words, rest[len(given)])
		}
	}
	return words
}
