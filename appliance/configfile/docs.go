package configfile

import (
	"fmt"
	"strings"
)

// Reference is the table of all keys for docs/config.md.
func Reference() string {
	var b strings.Builder
	for i := range Keys {
		fmt.Fprintf(&b, "## %s\n\n%s\n\n| key | value | example | what | flag |\n|---|---|---|---|---|\n", Keys[i].Name, Keys[i].Doc)
		reference(&b, Keys[i].Keys, "")
		b.WriteString("\n")
	}
	return b.String()
}

func reference(b *strings.Builder, keys []Key, path string) {
	for i := range keys {
		k := &keys[i]
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", path+k.Name, k.wanted(), quoted(k.Example), k.Doc, quoted(k.flagText()))
		reference(b, k.Keys, path+k.Name+"[].")
	}
}

// wanted says what a value may be.
func (k *Key) wanted() string {
	text := "sections"
	if k.Kind != nil {
		text = strings.ReplaceAll(k.Kind.Name, "|", `\|`)
	}
	if k.List {
		text = "list: " + text
	}
	if k.required {
		text += "; has to be there"
	}
	return text
}

func (k *Key) flagText() string {
	if k.Flag == "" {
		return ""
	}
	return "-" + k.Flag
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// Example is a file with every key at its example.
func Example() string {
	var b strings.Builder
	for i := range Keys {
		fmt.Fprintf(&b, "%s:\n", Keys[i].Name)
		example(&b, Keys[i].Keys, "  ", "  ")
	}
	return b.String()
}

// example writes keys; first stands before the first of them.
func example(b *strings.Builder, keys []Key, first, indent string) {
	for i := range keys {
		k := &keys[i]
		if k.Keys != nil {
			fmt.Fprintf(b, "%s%s:\n", first, k.Name)
			example(b, k.Keys, indent+"  - ", indent+"    ")
		} else {
			fmt.Fprintf(b, "%s%s: %s\n", first, k.Name, k.Example)
		}
		first = indent
	}
}
