package main

import (
	"flag"
	"fmt"

	"github.com/nfseal/nfseal/appliance/configfile"
)

// synonyms are flags that set what another one sets too.
var synonyms = map[string]string{"key-file": "root", "tls-key": "tls-cert", "volume-device": "volume-size"}

// meaning is the one name of flags that set the same.
func meaning(name string) string {
	if other, ok := synonyms[name]; ok {
		return other
	}
	return name
}

// applyFile sets the flags that a configuration file names, but for those that the command line had.
func applyFile(f *flag.FlagSet, name string) error {
	file, err := configfile.Read(name)
	if err != nil {
		return err
	}
	given := make(map[string]bool)
	f.Visit(func(v *flag.Flag) { given[meaning(v.Name)] = true })
	for _, s := range file.Settings {
		if given[meaning(s.Flag)] {
			continue
		}
		if err := f.Set(s.Flag, s.Value); err != nil {
			return fmt.Errorf("%s:%d:%d: %s: %w", name, s.Line, s.Column, s.Path, err)
		}
	}
	return nil
}
