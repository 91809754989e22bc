package sbom

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nfseal/nfseal/image/lock"
)

// An Image is what the document is about.
type Image struct {
	Name, Version string
	SHA256        string // of the raw image
	Made          time.Time
	Packages      []lock.Package
	Modules       []Module
}

// A Module is a Go module, or the Go library itself under the name "stdlib".
type Module struct {
	Path, Version string
}

// Modules gives what is in Go programs, each once, sorted.
func Modules(programs ...string) ([]Module, error) {
	seen := make(map[Module]bool)
	for _, program := range programs {
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			return nil, fmt.Errorf("sbom: %w", err)
		}
		seen[Module{"stdlib", strings.TrimPrefix(info.GoVersion, "go")}] = true
		for _, d := range info.Deps {
			if d.Replace != nil {
				d = d.Replace
			}
			seen[Module{d.Path, d.Version}] = true
		}
	}
	var all []Module
	for m := range seen {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Module) int { return strings.Compare(a.Path+" "+a.Version, b.Path+" "+b.Version) })
	return all, nil
}

// The document, as far as it is used (SPDX 2.3, sections 6, 7 and 11).
type document struct {
	SPDXVersion   string         `json:"spdxVersion"`
	DataLicense   string         `json:"dataLicense"`
	SPDXID        string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Packages      []pkg          `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pkg struct {
	SPDXID           string      `json:"SPDXID"`
	Name             string      `json:"name"`
	Version          string      `json:"versionInfo"`
	DownloadLocation string      `json:"downloadLocation"`
	FilesAnalyzed    bool        `json:"filesAnalyzed"`
	Checksums        []checksum  `json:"checksums,omitempty"`
	References       []reference `json:"externalRefs,omitempty"`
	Purpose          string      `json:"primaryPackagePurpose,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Kind    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const (
	documentID = "SPDXRef-DOCUMENT"
	imageID    = "SPDXRef-Image"
	noWord     = "NOASSERTION"
)

// Document makes the document. The same image gives the same bytes.
func Document(i Image) ([]byte, error) {
	name := i.Name + "-" + i.Version
	d := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: documentID, Name: name,
		Namespace: "https://nfseal.invalid/spdx/" + url.PathEscape(name) + "-" + i.SHA256,
		Creation:  creation{i.Made.UTC().Format(time.RFC3339), []string{"Tool: nfseal-image"}},
		Packages: []pkg{{SPDXID: imageID, Name: i.Name, Version: i.Version, DownloadLocation: noWord,
			Checksums: []checksum{{"SHA256", i.SHA256}}, Purpose: "OPERATING-SYSTEM"}},
		Relationships: []relationship{{documentID, "DESCRIBES", imageID}},
	}
	for _, p := range i.Packages {
		locator := fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s&distro=bookworm", url.PathEscape(p.Name), url.QueryEscape(p.Version), p.Architecture)
		d.add(identifier("deb", p.Name, p.Version), p.Name, p.Version, locator, &checksum{"SHA256", p.SHA256})
	}
	for _, m := range i.Modules {
		d.add(identifier("go", m.Path, m.Version), m.Path, m.Version, "pkg:golang/"+m.Path+"@"+url.QueryEscape(m.Version), nil)
	}
	text, err := json.MarshalIndent(d, "", "  ")
	return append(text, '\n'), err
}

func (d *document) add(id, name, version, locator string, sum *checksum) {
	p := pkg{SPDXID: id, Name: name, Version: version, DownloadLocation: noWord,
		References: []reference{{"PACKAGE-MANAGER", "purl", locator}}}
	if sum != nil {
		p.Checksums = []checksum{*sum}
	}
	d.Packages = append(d.Packages, p)
	d.Relationships = append(d.Relationships, relationship{imageID, "CONTAINS", id})
}

var outside = regexp.MustCompile(`[^a-zA-Z0-9.-]+`)

// identifier makes an identifier that only these words have: those letters that may not stand in one are
// told apart by a hash.
func identifier(words ...string) string {
	hash := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return "SPDXRef-" + outside.ReplaceAllString(strings.Join(words, "-"), "-") + "-" + hex.EncodeToString(hash[:4])
}
