package logs

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// File is the log of a container that runs.
type File struct{ ContainerID, Path string }

// RotateConfig of a Rotator.
type RotateConfig struct {
	Size    int64                                               // bytes from which a log is rotated; default 10 MiB
	Files   int                                                 // how many files a container has at most, with the one that is written; default 5
	Every   time.Duration                                       // between two looks; default 10 s
	Running func() []File                                       // the logs of the containers that run
	Reopen  func(ctx context.Context, containerID string) error // makes the runtime write a new file
	Log     *slog.Logger
}

// Rotator keeps logs small: it renames a large one, makes the runtime begin another and
// packs those before it.
type Rotator struct{ cfg RotateConfig }

const (
	stampLayout = "20060102-150405"
	packed      = ".gz"
	unfinished  = ".tmp"
)

// NewRotator checks the configuration.
func NewRotator(cfg RotateConfig) (*Rotator, error) {
	if cfg.Running == nil || cfg.Reopen == nil || cfg.Log == nil {
		return nil, errors.New("logs: Running, Reopen and Log are required")
	}
	if cfg.Size <= 0 {
		cfg.Size = 10 << 20
	}
	if cfg.Files < 2 {
		cfg.Files = 5
	}
	if cfg.Every <= 0 {
		cfg.Every = 10 * time.Second
	}
	return &Rotator{cfg}, nil
}

// Run looks at the logs again and again until ctx ends.
func (r *Rotator) Run(ctx context.Context) error {
	tick := time.NewTicker(r.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, f := range r.cfg.Running() {
			if err := r.look(ctx, f); err != nil && ctx.Err() == nil {
				r.cfg.Log.Warn("rotate log", "container", f.ContainerID, "error", err)
			}
		}
	}
}

// look rotates one log if it is large.
func (r *Rotator) look(ctx context.Context, f File) error {
	at, err := os.Stat(f.Path)
	if errors.Is(err, os.ErrNotExist) { // a rotation was cut short, or the container has no log yet
		return r.reopen(ctx, f)
	}
	if err != nil || at.Size() < r.cfg.Size {
		return err
	}
	old, err := rotated(f.Path)
	if err != nil {
		return err
	}
	for len(old) > r.cfg.Files-2 {
		if err := os.Remove(old[0]); err != nil {
			return fmt.Errorf("remove old log: %w", err)
		}
		old = old[1:]
	}
	for _, path := range old {
		if err := pack(path); err != nil {
			return err
		}
	}
	next := f.Path + "." + time.Now().UTC().Format(stampLayout)
	if err := os.Rename(f.Path, next); err != nil {
		return fmt.Errorf("rename log: %w", err)
	}
	if err := r.reopen(ctx, f); err != nil {
		return errors.Join(err, os.Rename(next, f.Path))
	}
	return nil
}

func (r *Rotator) reopen(ctx context.Context, f File) error {
	if err := r.cfg.Reopen(ctx, f.ContainerID); err != nil {
		return fmt.Errorf("reopen log: %w", err)
	}
	return nil
}

// rotated answers the logs before the present one, the oldest first, and removes what a
// packing that was cut short has left.
func rotated(path string) ([]string, error) {
	all, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	var out []string
	for _, e := range all {
		stamp, ours := strings.CutPrefix(e.Name(), filepath.Base(path)+".")
		whole := filepath.Join(filepath.Dir(path), e.Name())
		if ours && strings.HasSuffix(stamp, unfinished) {
			if err := os.Remove(whole); err != nil {
				return nil, fmt.Errorf("remove half a log: %w", err)
			}
			continue
		}
		if _, err := time.Parse(stampLayout, strings.TrimSuffix(stamp, packed)); ours && err == nil {
			out = append(out, whole)
		}
	}
	sort.Strings(out) // by time: the names differ in their stamps alone
	return out, nil
}

// pack replaces a log by a gzip file.
func pack(path string) (err error) {
	if strings.HasSuffix(path, packed) {
		return nil
	}
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("pack log: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(path+unfinished, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("pack log: %w", err)
	}
	to, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return errors.Join(err, out.Close())
	}
	_, err = io.Copy(to, in)
	if err = errors.Join(err, to.Close(), out.Close()); err != nil {
		return errors.Join(fmt.Errorf("pack log: %w", err), os.Remove(path+unfinished))
	}
	if err := os.Rename(path+unfinished, path+packed); err != nil {
		return fmt.Errorf("pack log: %w", err)
	}
	return os.Remove(path)
}
