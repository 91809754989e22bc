package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/configfile"
	"github.com/nfseal/nfseal/appliance/durable"
)

// errAgain says that the daemon is to start again, with another configuration.
var errAgain = errors.New("start again")

const (
	// trySuffix is of the file that is being tried, beside the one that is in force otherwise.
	trySuffix = ".try"
	// tryVariable tells the program that takes the place of this one, and no other, to try that file. One that finds the
	// file and not the variable has been started after a crash: what was being tried is not tried again.
	tryVariable = "NFSEALD_TRY_SECONDS"
	// answerTime is for the answer to the call that has the daemon start again.
	answerTime = 200 * time.Millisecond
)

// A keeper keeps the configuration file. It implements api.Configurations.
type keeper struct {
	file string
	args []string // of the command line
	end  func()   // has the daemon end, to start again

	mu         sync.Mutex
	trySeconds int // what the next start tries its file for; 0 for not at all
	until      time.Time
	timer      *time.Timer
	ending     bool
}

// serveFile serves with the file that is to be tried, or else with the one that -config names.
func serveFile(c *config, args []string, trySeconds int, stdout, stderr io.Writer) error {
	if c.file == "" {
		return serve(c, nil, stdout, stderr)
	}
	k := &keeper{file: c.file, args: args}
	tried := c.file + trySuffix
	if _, err := os.Lstat(tried); errors.Is(err, fs.ErrNotExist) {
		trySeconds = 0
	} else if trySeconds == 0 {
		fmt.Fprintf(stderr, "nfseald: %s was being tried when the daemon ended: %s is in force again\n", tried, c.file)
		if err := os.Remove(tried); err != nil {
			return err
		}
	}
	if trySeconds > 0 {
		other, err := parseWith(args, tried, io.Discard)
		if err != nil {
			return errors.Join(os.Remove(tried), fmt.Errorf("%w: it was right a moment ago", err))
		}
		c.options, c.logFormat, c.debug = other.options, other.logFormat, other.debug
		k.until = time.Now().Add(time.Duration(trySeconds) * time.Second)
	}
	err := serve(c, k, stdout, stderr)
	if err != nil && !errors.Is(err, errAgain) && !k.until.IsZero() {
		fmt.Fprintf(stderr, "nfseald: %s does not start: %v\n", tried, err)
		err = errors.Join(os.Remove(tried), errAgain)
	}
	c.trySeconds = k.trySeconds
	return err
}

// again has this program take its own place, with the same arguments.
func again(trySeconds int) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	environment := os.Environ()
	for name, value := range keptEnvironment {
		environment = append(environment, name+"="+value)
	}
	if trySeconds > 0 {
		environment = append(environment, tryVariable+"="+strconv.Itoa(trySeconds))
	}
	return fmt.Errorf("start again: %w", syscall.Exec(program, os.Args, environment))
}

// takeTrySeconds reads what again has said, for this process alone.
func takeTrySeconds() int {
	n, err := strconv.Atoi(os.Getenv(tryVariable))
	os.Unsetenv(tryVariable)
	if err != nil || n < api.MinTrySeconds || n > api.MaxTrySeconds {
		return 0
	}
	return n
}

// tryFor has the file from before taken again when the time is over; the function it returns forgets that. A nil keeper
// tries nothing.
func (k *keeper) tryFor(log *zap.Logger) (stop func()) {
	if k == nil || k.until.IsZero() {
		return func() {}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	log.Info("a configuration is being tried", zap.Time("until", k.until))
	k.timer = time.AfterFunc(time.Until(k.until), func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.until.IsZero() || k.ending {
			return
		}
		log.Warn("the configuration was not confirmed: the one from before is taken again")
		if err := os.Remove(k.file + trySuffix); err != nil {
			log.Error("it can't be removed", zap.Error(err))
		}
		k.ending = true
		k.end()
	})
	return func() { k.timer.Stop() }
}

// ApplyConfiguration implements api.Configurations.
func (k *keeper) ApplyConfiguration(_ context.Context, r api.ApplyConfigurationRequest) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.until.IsZero() || k.ending {
		return api.ConfigurationBusy()
	}
	tried := k.file + trySuffix
	if err := durable.WriteFile(tried, []byte(r.Text), 0o600); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if _, err := parseWith(k.args, tried, io.Discard); err != nil {
		said := strings.ReplaceAll(err.Error(), tried+":", "")
		return errors.Join(os.Remove(tried), api.InvalidConfiguration(said))
	}
	if r.TrySeconds == 0 {
		if err := k.keep(); err != nil {
			return err
		}
	}
	k.trySeconds, k.ending = r.TrySeconds, true
	time.AfterFunc(answerTime, k.end)
	return nil
}

// keep makes the file that was tried the one in force.
func (k *keeper) keep() error {
	if err := os.Rename(k.file+trySuffix, k.file); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return durable.SyncDir(filepath.Dir(k.file))
}

// ConfirmConfiguration implements api.Configurations.
func (k *keeper) ConfirmConfiguration(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.until.IsZero() || k.ending {
		return api.NoTrial()
	}
	if err := k.keep(); err != nil {
		return err
	}
	k.until = time.Time{}
	return nil
}

// ConfigurationState implements api.Configurations.
func (k *keeper) ConfigurationState(context.Context) (api.ConfigurationState, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	name := k.file
	if !k.until.IsZero() {
		name += trySuffix
	}
	text, err := durable.ReadFile(name, configfile.MaxBytes)
	if err != nil {
		return api.ConfigurationState{}, fmt.Errorf("configuration: %w", err)
	}
	return api.ConfigurationState{Text: string(text), TryUntil: k.until}, nil
}
