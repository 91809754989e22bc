package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nfseal/nfseal/image/maintenance"
	"golang.org/x/sys/unix"
)

const (
	// lineBytes is the longest line that is taken from a console.
	lineBytes = 256
	// reopenAfter is when a console is looked at again that could not be read.
	reopenAfter = 5 * time.Second
	// Words in the file that the console leaves for root.
	wordRestart = "reboot"
	wordOff     = "poweroff"
)

func powerFile(dir string) string { return filepath.Join(dir, "power") }

// power does what the console was told.
func power(dir string) error {
	word, err := os.ReadFile(powerFile(dir))
	if err != nil {
		return err
	}
	if err := os.Remove(powerFile(dir)); err != nil {
		return err
	}
	switch string(word) {
	case wordRestart, wordOff:
		return control("--no-block", string(word))
	}
	return fmt.Errorf("%q is no word for what to do with the power", word)
}

// readLines gives the lines that are typed at consoles until the context ends; wait returns when the last reader has gone.
func readLines(ctx context.Context, names []string, dev string) (lines <-chan string, wait func()) {
	all := make(chan string)
	var readers sync.WaitGroup
	for _, name := range names {
		readers.Go(func() {
			for ctx.Err() == nil {
				readConsole(ctx, filepath.Join(dev, name), all)
				select {
				case <-ctx.Done():
				case <-time.After(reopenAfter):
				}
			}
		})
	}
	return all, readers.Wait
}

// readConsole reads one console until it ends, or has a line that is too long.
func readConsole(ctx context.Context, path string, to chan<- string) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return // there is none that can be read
	}
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer f.Close()
	defer stop()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, lineBytes)
	for lines.Scan() {
		select {
		case to <- strings.TrimSpace(lines.Text()):
		case <-ctx.Done():
			return
		}
	}
}

// A menu answers what is typed at the consoles.
type menu struct {
	door  func() (*maintenance.Client, error) // to the maintenance API, an error if there is none
	power func(word string) error
	// next takes the line that answers a question, nil if there is none.
	next func(ctx context.Context, line string) string
	wait *maintenance.Client // whose installation is watched
}

// words of the menu, beside what it may do.
func menuText(maintained bool) string {
	text := "  menu             1 show this again, 2 restart, 3 power off"
	if maintained {
		text += ", 4 install on a disk"
	}
	return text + ": a number and the Enter key\n"
}

// answer gives what is said to a line; again has the view shown once more.
func (m *menu) answer(ctx context.Context, line string) (text string, again bool) {
	if next := m.next; next != nil {
		m.next = nil
		return next(ctx, line), false
	}
	switch line {
	case "":
		return "", false
	case "1":
		return "", true
	case "2":
		return m.ask("restart the machine", wordRestart), false
	case "3":
		return m.ask("switch the machine off", wordOff), false
	case "4":
		return m.install(ctx), false
	}
	return "\nThere is no " + strconv.Quote(line) + " in the menu.\n", false
}

const yes = "yes"

func (m *menu) ask(what, word string) string {
	m.next = func(_ context.Context, line string) string {
		if line != yes {
			return "\nNothing was done.\n"
		}
		if err := m.power(word); err != nil {
			return fmt.Sprintf("\nIt can't be done: %v\n", err)
		}
		return ""
	}
	return fmt.Sprintf("\nType yes to %s: ", what)
}

// install asks for a disk.
func (m *menu) install(ctx context.Context) string {
	client, err := m.door()
	if err != nil {
		return fmt.Sprintf("\nThis machine is not in maintenance: %v\n", err)
	}
	status, err := client.Status(ctx)
	if err != nil {
		client.Close()
		return fmt.Sprintf("\nThe disks can't be looked at: %v\n", err)
	}
	var b strings.Builder
	b.WriteString("\nInstall on which disk? All that is on it is lost.\n")
	for i, d := range status.Disks {
		fmt.Fprintf(&b, "  %d  %s\n", i+1, describeDisk(d))
	}
	b.WriteString("The number of a disk, or nothing: ")
	m.next = func(ctx context.Context, line string) string {
		n, err := strconv.Atoi(line)
		if err != nil || n < 1 || n > len(status.Disks) {
			client.Close()
			return "\nNothing was done.\n"
		}
		return m.confirm(client, status.Disks[n-1])
	}
	return b.String()
}

func describeDisk(d maintenance.Disk) string {
	text := fmt.Sprintf("%s, %.1f GiB, serial:%s", d.Name, float64(d.SizeBytes)/(1<<30), d.Serial)
	switch {
	case d.Refused != "":
		return text + ": can't be taken, " + d.Refused
	case d.Data != "":
		return text + ": " + d.Data
	}
	return text + ": empty"
}

// confirm asks once more, with another word where there is data.
func (m *menu) confirm(client *maintenance.Client, d maintenance.Disk) string {
	word := yes
	if d.Data != "" {
		word = "erase " + d.Name
	}
	m.next = func(ctx context.Context, line string) string {
		if line != word {
			client.Close()
			return "\nNothing was done.\n"
		}
		if err := client.Install(ctx, maintenance.InstallRequest{Disk: d.Name, Erase: d.Data != ""}); err != nil {
			client.Close()
			return fmt.Sprintf("\nNothing was done: %v\n", err)
		}
		m.wait = client
		return "\nIt is being written.\n"
	}
	return fmt.Sprintf("\nType %s to install on %s: ", word, describeDisk(d))
}

// watch says how an installation has ended, "" while it goes on or if there is none.
func (m *menu) watch(ctx context.Context) string {
	if m.wait == nil {
		return ""
	}
	s, err := m.wait.Status(ctx)
	if err == nil && s.Install.State == maintenance.InstallWriting {
		return ""
	}
	m.wait.Close()
	m.wait = nil
	switch {
	case err != nil:
		return fmt.Sprintf("\nHow it goes on is not known: %v\n", err)
	case s.Install.State == maintenance.InstallFailed:
		return fmt.Sprintf("\nIt has failed: %s\n", s.Install.Detail)
	}
	return fmt.Sprintf("\nInstalled on %s, and read back: SHA-256 %s\nTake the medium out and restart (2).\n", s.Install.Disk, s.Install.SHA256)
}

// readDoor reads what the maintenance API has left for the console.
func readDoor(dir string) (door, error) {
	var d door
	text, err := os.ReadFile(doorFile(dir))
	if err != nil {
		return d, err
	}
	return d, json.Unmarshal(text, &d)
}

// openDoor goes in by what the console shows.
func openDoor() (*maintenance.Client, error) {
	d, err := readDoor(runDir)
	if err != nil {
		return nil, errors.New("it serves, or is about to")
	}
	return maintenance.NewClient("127.0.0.1", d.Fingerprint, d.Code)
}

// leavePower leaves a word for root.
func leavePower(word string) error {
	path := powerFile(daemonDir)
	return errors.Join(os.WriteFile(path+".new", []byte(word), 0o600), os.Rename(path+".new", path))
}
