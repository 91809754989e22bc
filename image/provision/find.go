package provision

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nfseal/nfseal/appliance/configfile"
	"github.com/nfseal/nfseal/appliance/durable"
	"golang.org/x/sys/unix"
)

// maxOVFBytes bounds the environment of OVF: the file in Base64, and other properties.
const maxOVFBytes = 1 << 20

// ErrNotOurs says that what was given is for another program.
var ErrNotOurs = errors.New("is for cloud-init and not a configuration file of nfseal (docs/config.md)")

// Found is a configuration, right or wrong.
type Found struct {
	Where string // in words
	Text  []byte
}

// Sources are where a configuration is looked for.
type Sources struct {
	Given       string // file that the maintenance API leaves
	Credentials string // directory of systemd's credentials, "" for none
	Labels      string // where udev names drives by label, usually /dev/disk/by-label
	// Mount shows what a drive holds, below the directory that it gives, until done is called.
	Mount func(device string) (dir string, done func() error, err error)
}

// drives are the labels, as udev writes them, and what is looked for there.
var drives = []struct {
	label string
	files []string
}{
	{"cidata", []string{"nfseal.yaml", "user-data"}},
	{"CIDATA", []string{"nfseal.yaml", "user-data"}},
	{"config-2", []string{"nfseal.yaml", "openstack/latest/user_data"}},
	{"CONFIG-2", []string{"nfseal.yaml", "openstack/latest/user_data"}},
	{`OVF\x20ENV`, []string{ovfFile}},
}

const ovfFile = "ovf-env.xml"

// Find gives the first that there is, nil if there is none.
func (s *Sources) Find() (*Found, error) {
	found, err := readIf(s.Given, "the maintenance API")
	if found != nil || err != nil {
		return found, err
	}
	if s.Credentials != "" {
		found, err = readIf(filepath.Join(s.Credentials, "nfseal.config"), "the credential nfseal.config")
		if found != nil || err != nil {
			return found, err
		}
	}
	for _, d := range drives {
		device := filepath.Join(s.Labels, d.label)
		if _, err := os.Stat(device); err != nil {
			continue
		}
		found, err := s.drive(device, d.files)
		if err != nil {
			return nil, fmt.Errorf("the drive %s: %w", d.label, err)
		}
		if found != nil {
			found.Where = fmt.Sprintf("%s of the drive %s", found.Where, d.label)
			return found, nil
		}
	}
	return nil, nil
}

func readIf(file, where string) (*Found, error) {
	text, err := durable.ReadFile(file, configfile.MaxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return &Found{where, text}, nil
}

// drive gives the first of the files that a drive has and that says something.
func (s *Sources) drive(device string, files []string) (found *Found, err error) {
	dir, done, err := s.Mount(device)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, name := range files {
		limit := int64(configfile.MaxBytes)
		if name == ovfFile {
			limit = maxOVFBytes
		}
		text, err := readIn(root, name, limit)
		if err == nil && name == ovfFile {
			text, err = property(text)
		}
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return &Found{name, text}, nil
	}
	return nil, nil
}

// readIn reads a file of at most limit bytes that does not lead out of root.
func readIn(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(errors.New("it is no file"), err)
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return text, err
}

// property takes the configuration out of an environment (DMTF DSP0243, section 11), as it stands there or in Base64. An
// environment without one is as none.
func property(text []byte) ([]byte, error) {
	var environment struct {
		Sections []struct {
			Properties []struct {
				Key   string `xml:"key,attr"`
				Value string `xml:"value,attr"`
			} `xml:"Property"`
		} `xml:"PropertySection"`
	}
	if err := xml.Unmarshal(text, &environment); err != nil {
		return nil, err
	}
	for _, section := range environment.Sections {
		for _, p := range section.Properties {
			if p.Key != "nfseal.config" {
				continue
			}
			if decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(p.Value)); err == nil {
				return decoded, nil
			}
			return []byte(p.Value), nil
		}
	}
	return nil, nil
}

// Parse judges what was found. The error names the place, and what is wrong with line and column.
func (f *Found) Parse() (*configfile.File, error) {
	for _, beginning := range []string{"#cloud-config", "#!", "Content-Type:", "#include"} {
		if bytes.HasPrefix(f.Text, []byte(beginning)) {
			return nil, fmt.Errorf("%s begins with %s and %w", f.Where, beginning, ErrNotOurs)
		}
	}
	return configfile.Parse(f.Where, f.Text)
}
