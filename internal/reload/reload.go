// Package reload has configuration files read again when they change.
//
// The one idea: a file is followed by what it holds, not by how it is replaced (written in
// place, renamed, a link that points elsewhere): the kernel tells that something happened in
// its folder, and a different hash that it matters. What cannot be used is logged and counted
// once, and the former configuration stays. As folders of other machines tell nothing, the
// hash is looked at once a minute too, as Kubernetes does.
//
// Used by cluster, for the files of its flags.
package reload

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	lookAgain = time.Minute
	// calm is how long a folder must be quiet: files are often written in steps.
	calm = 50 * time.Millisecond
)

// Config of a File.
type Config struct {
	Name string // as metrics call it: "authentication"
	Path string
	// Load reads the file and puts it into use; after an error what was before is in use.
	Load func(ctx context.Context) error
	Log  *slog.Logger
}

// File follows one file.
type File struct {
	cfg  Config
	hash [sha256.Size]byte

	good, bad         atomic.Int64
	lastGood, lastBad atomic.Int64 // Unix nanoseconds; 0: never
}

// New notes what the file holds now. It is called before the file is used for the first time,
// so that no change in between is missed.
func New(cfg Config) (*File, error) {
	if cfg.Path == "" || cfg.Load == nil || cfg.Log == nil {
		return nil, errors.New("reload: Path, Load and Log are required")
	}
	f := &File{cfg: cfg}
	var err error
	f.hash, err = hash(cfg.Path)
	return f, err
}

func hash(path string) ([sha256.Size]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("read configuration: %w", err)
	}
	return sha256.Sum256(data), nil
}

// Run follows the file until ctx ends.
func (f *File) Run(ctx context.Context) error {
	var told chan fsnotify.Event
	w, err := fsnotify.NewWatcher()
	if err == nil {
		defer w.Close()
		told = w.Events
		err = f.watch(w)
	}
	if err != nil {
		f.cfg.Log.Warn("a configuration file is looked at only once a minute", "file", f.cfg.Path, "err", err)
	}
	var faults chan error
	if w != nil {
		faults = w.Errors
	}
	poll := time.NewTicker(lookAgain)
	defer poll.Stop()
	quiet := time.NewTimer(0) // a change since New
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-told:
			quiet.Reset(calm)
		case err := <-faults:
			f.cfg.Log.Warn("follow configuration file", "file", f.cfg.Path, "err", err)
			quiet.Reset(calm)
		case <-poll.C:
			f.look(ctx)
		case <-quiet.C:
			f.look(ctx)
			if w != nil {
				_ = f.watch(w) // the file may be a link to elsewhere now; else once a minute
			}
		}
	}
}

// watch asks to be told about the folder of the file, and of what it links to.
func (f *File) watch(w *fsnotify.Watcher) error {
	err := w.Add(filepath.Dir(f.cfg.Path))
	if real, linkErr := filepath.EvalSymlinks(f.cfg.Path); linkErr == nil && filepath.Dir(real) != filepath.Dir(f.cfg.Path) {
		err = errors.Join(err, w.Add(filepath.Dir(real)))
	}
	return err
}

// look loads the file if it holds something else than before. One that cannot be read is
// tried again; one that cannot be used is not, until it changes.
func (f *File) look(ctx context.Context) {
	now, err := hash(f.cfg.Path)
	if err == nil {
		if now == f.hash {
			return
		}
		f.hash = now
		err = f.cfg.Load(ctx)
	}
	if err != nil {
		f.bad.Add(1)
		f.lastBad.Store(time.Now().UnixNano())
		f.cfg.Log.Error("a changed configuration file is not used, the former configuration stays", "configuration", f.cfg.Name, "file", f.cfg.Path, "err", err)
		return
	}
	f.good.Add(1)
	f.lastGood.Store(time.Now().UnixNano())
	f.cfg.Log.Info("a changed configuration file is in use", "configuration", f.cfg.Name, "file", f.cfg.Path)
}
