package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/nfseal/nfseal/appliance/durable"
)

// A Setting is a flag of nfseald and its value, and where the file has it.
type Setting struct {
	Path  string // keys with dots between them
	Flag  string
	Value string
	Position
}

// A Position is in a file; both count from 1.
type Position struct{ Line, Column int }

// A File is one that was read and is right.
type File struct {
	Settings []Setting // of the daemon, in the order of the file
	Machine  Machine
}

// A Problem is one thing that is wrong.
type Problem struct {
	Position
	Text string
}

// Problems are all that is wrong, or the first of it, in the order of the file.
type Problems struct {
	File string
	List []Problem
}

// Error has a line for each.
func (p *Problems) Error() string {
	lines := make([]string, 0, len(p.List))
	for _, one := range p.List {
		lines = append(lines, fmt.Sprintf("%s:%d:%d: %s", p.File, one.Line, one.Column, one.Text))
	}
	return strings.Join(lines, "\n")
}

// Read reads a file. The error is *Problems, or that of reading it.
func Read(name string) (*File, error) {
	text, err := durable.ReadFile(name, MaxBytes)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("configuration: %s does not exist", name)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Parse(name, text)
}

// Parse reads the text of a file that is called name. The error is *Problems.
func Parse(name string, text []byte) (*File, error) {
	r, f := &reader{}, &File{}
	entries := r.document(text)
	for i := range entries {
		switch {
		case len(r.problems) > 0: // what is not whole is not taken apart
		case entries[i].key.Name == machineKey:
			f.Machine = r.machine(&entries[i])
		default:
			f.Settings = append(f.Settings, entries[i].settings()...)
		}
	}
	if len(r.problems) > 0 {
		return nil, &Problems{name, r.problems}
	}
	return f, nil
}

// An entry is what the file has for a key.
type entry struct {
	key  *Key
	path string
	Position
	values   []value   // one, or those of a list
	entries  []entry   // of a section
	sections [][]entry // of a list of sections
}

// A value is as the flag has it, and where it stands.
type value struct {
	text string
	Position
}

// texts are the values alone.
func (e *entry) texts() []string {
	all := make([]string, len(e.values))
	for i, v := range e.values {
		all[i] = v.text
	}
	return all
}

// A reader collects what is wrong.
type reader struct{ problems []Problem }

func (r *reader) wrong(at Position, format string, a ...any) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, Problem{at, fmt.Sprintf(format, a...)})
	}
}

func position(n *yaml.Node) Position { return Position{max(n.Line, 1), max(n.Column, 1)} }

// document takes the only document of a file.
func (r *reader) document(text []byte) []entry {
	if len(text) > MaxBytes {
		r.wrong(Position{1, 1}, "the file is larger than %d bytes", MaxBytes)
		return nil
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var first, second yaml.Node
	err := d.Decode(&first)
	if errors.Is(err, io.EOF) {
		return nil // an empty file leaves everything at its default
	}
	if err != nil {
		r.syntax(err)
		return nil
	}
	if err := d.Decode(&second); err == nil {
		r.wrong(position(&second), "a second document begins here: the file has one")
		return nil
	} else if !errors.Is(err, io.EOF) {
		r.syntax(err)
		return nil
	}
	if isEmpty(first.Content[0]) {
		return nil
	}
	return r.section(first.Content[0], Keys, "")
}

// syntax tells what the parser says.
func (r *reader) syntax(err error) {
	var syntax *yaml.LoadError
	if !errors.As(err, &syntax) {
		r.wrong(Position{1, 1}, "this is not YAML: %v", err)
		return
	}
	at, text := syntax.Mark, syntax.Message
	if syntax.ContextMsg != "" {
		text = syntax.ContextMsg + ": " + text
	}
	r.wrong(Position{max(at.Line, 1), max(at.Column, 1)}, "this is not YAML: %s", text)
}

// section takes a mapping whose keys are known.
func (r *reader) section(node *yaml.Node, keys []Key, path string) []entry {
	if node.Kind != yaml.MappingNode || !isPlain(node) {
		r.wrong(position(node), "%s is a section: keys with values below it are wanted, %s", nameOf(path), known(keys))
		return nil
	}
	var all []entry
	seen := make(map[string]Position)
	for i := 0; i+1 < len(node.Content); i += 2 {
		e, ok := r.pair(node.Content[i], node.Content[i+1], keys, path)
		if !ok {
			continue
		}
		if before, twice := seen[e.key.Name]; twice {
			r.wrong(position(node.Content[i]), "%s is there twice, first in line %d", e.path, before.Line)
			continue
		}
		seen[e.key.Name] = position(node.Content[i])
		all = append(all, e)
	}
	for i := range keys {
		if _, there := seen[keys[i].Name]; keys[i].required && !there {
			r.wrong(position(node), "%s lacks %s", nameOf(path), keys[i].Name)
		}
	}
	return all
}

func nameOf(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func known(keys []Key) string {
	names := make([]string, len(keys))
	for i := range keys {
		names[i] = keys[i].Name
	}
	return "of " + strings.Join(names, ", ")
}

// pair takes a key and its value.
func (r *reader) pair(name, node *yaml.Node, keys []Key, path string) (entry, bool) {
	at := position(name)
	if name.Kind != yaml.ScalarNode || !isPlain(name) {
		r.wrong(at, "this is no key: it has to be one %s", known(keys))
		return entry{}, false
	}
	key := lookUp(keys, name.Value)
	full := strings.TrimPrefix(path+"."+clip(name.Value), ".")
	if key == nil {
		r.wrong(at, "%s is not known; %s%s", full, nearest(name.Value, keys), known(keys))
		return entry{}, false
	}
	e := entry{key: key, path: full, Position: at}
	if isEmpty(node) {
		r.wrong(at, "%s has no value: write one, or leave the key out", full)
		return e, false
	}
	before := len(r.problems)
	switch {
	case key.List:
		r.list(&e, node)
	case key.Keys != nil:
		e.entries = r.section(node, key.Keys, full)
	default:
		e.values = r.scalar(nil, node, key.Kind, full)
	}
	return e, len(r.problems) == before
}

func lookUp(keys []Key, name string) *Key {
	for i := range keys {
		if keys[i].Name == name {
			return &keys[i]
		}
	}
	return nil
}

func isEmpty(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// isPlain says that a node has neither anchor nor tag of its own: they make a file mean something else than what
// its reader sees.
func isPlain(n *yaml.Node) bool {
	return n.Kind != yaml.AliasNode && n.Anchor == "" && n.Style&yaml.TaggedStyle == 0
}

// list takes values, or sections.
func (r *reader) list(e *entry, node *yaml.Node) {
	switch {
	case node.Kind != yaml.SequenceNode || !isPlain(node):
		r.wrong(position(node), "%s is a list: write [one, another], or lines that begin with a hyphen", e.path)
		return
	case len(node.Content) > maxEntries:
		r.wrong(position(node), "%s has more than %d entries", e.path, maxEntries)
		return
	case len(node.Content) == 0:
		r.wrong(position(node), "%s is empty: leave it out instead", e.path)
	}
	for i, one := range node.Content {
		path := fmt.Sprintf("%s[%d]", e.path, i)
		switch {
		case isEmpty(one):
			r.wrong(position(one), "%s is empty", path)
		case e.key.Keys != nil:
			e.sections = append(e.sections, r.section(one, e.key.Keys, path))
		default:
			e.values = r.scalar(e.values, one, e.key.Kind, path)
		}
	}
}

// scalar appends what a value says.
func (r *reader) scalar(to []value, node *yaml.Node, k *Kind, path string) []value {
	at := position(node)
	if node.Kind != yaml.ScalarNode || !isPlain(node) {
		r.wrong(at, "%s wants %s, not %s", path, k.Name, describe(node))
		return to
	}
	if len(node.Value) > maxText {
		r.wrong(at, "%s is longer than %d bytes", path, maxText)
		return to
	}
	text, err := k.take(node.Value)
	if err != nil {
		r.wrong(at, "%s: %q %v", path, clip(node.Value), err)
		return to
	}
	return append(to, value{text, at})
}

func describe(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return "a section"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	}
	return "an anchor, an alias or a tag, which this file does not have"
}

// clip keeps what a file says short enough for a message.
func clip(s string) string {
	if r := []rune(s); len(r) > 80 {
		return string(r[:80]) + "…"
	}
	return s
}

// settings are the flags that an entry becomes.
func (e *entry) settings() []Setting {
	var all []Setting
	add := func(text string, at Position) {
		all = append(all, Setting{Path: e.path, Flag: e.key.Flag, Value: text, Position: at})
	}
	switch {
	case e.key.join != nil:
		for _, section := range e.sections {
			add(e.key.join(valuesOf(section)), section[0].Position)
		}
		return all
	case e.key.separator != "":
		add(strings.Join(e.texts(), e.key.separator), e.Position)
	case e.key.invert:
		add(map[string]string{"true": "false", "false": "true"}[e.values[0].text], e.values[0].Position)
	default:
		for _, v := range e.values {
			add(v.text, v.Position)
		}
	}
	for _, section := range append(e.sections, e.entries) {
		for i := range section {
			all = append(all, section[i].settings()...)
		}
	}
	return all
}

// valuesOf are the values of a section, by name.
func valuesOf(section []entry) map[string]string {
	values := make(map[string]string)
	for _, e := range section {
		values[e.key.Name] = strings.Join(e.texts(), ",")
	}
	return values
}
