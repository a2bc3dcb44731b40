package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// FileConfig of a File; sizes and ages as in Kubernetes' flags.
type FileConfig struct {
	Path       string // "-" for standard output
	MaxSize    int    // megabytes before the file is put aside; 0: 100
	MaxAge     int    // days that files put aside are kept; 0: for ever
	MaxBackups int    // how many are kept; 0: all
	Log        *slog.Logger
	Now        func() time.Time // default time.Now
}

const defaultMaxSize = 100

// backupTime is in the names of files put aside: audit-2026-11-21T09-00-00.000.log.
const backupTime = "2006-01-02T15-04-05.000"

// File writes events as lines, each before its request goes on: what is written outlives a
// crash of this process.
type File struct {
	cfg    FileConfig
	errors atomic.Int64
	faults faults

	mu   sync.Mutex
	out  io.Writer
	file *os.File // nil: standard output
	size int64
}

var (
	_ Sink    = (*File)(nil)
	_ counted = (*File)(nil)
)

// NewFile opens the file for appending, with mode 0600, and makes its folder.
func NewFile(cfg FileConfig) (*File, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = defaultMaxSize
	}
	f := &File{cfg: cfg, faults: faults{log: cfg.Log, now: cfg.Now}}
	if cfg.Path == "-" {
		f.out = os.Stdout
		return f, nil
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	return f, f.open()
}

func (f *File) open() error {
	file, err := os.OpenFile(f.cfg.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open the audit log: %w", err), file.Close())
	}
	f.file, f.out, f.size = file, file, info.Size()
	return nil
}

// Write appends a line, in a new file when this one is full.
func (f *File) Write(line []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil && f.size > 0 && f.size+int64(len(line)) > int64(f.cfg.MaxSize)<<20 {
		if err := f.rotate(); err != nil {
			f.failed(err)
		}
	}
	if f.out == nil { // it could not be opened after it was put aside
		if err := f.open(); err != nil {
			f.failed(err)
			return
		}
	}
	n, err := f.out.Write(line)
	f.size += int64(n)
	if err != nil {
		f.failed(fmt.Errorf("write the audit log: %w", err))
	}
}

func (f *File) failed(err error) {
	f.errors.Add(1)
	f.faults.report("the audit log lacks events", err)
}

// Name is upstream's.
func (f *File) Name() string { return "log" }

// Errors counts events that could not be written.
func (f *File) Errors() int64 { return f.errors.Load() }

// Run waits for the end and closes the file.
func (f *File) Run(ctx context.Context) error {
	<-ctx.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file, f.out = nil, nil
	return err
}

// rotate puts the file aside, begins another and removes what is too old or too much.
func (f *File) rotate() error {
	if err := f.file.Close(); err != nil {
		return err
	}
	f.file, f.out = nil, nil
	start, ext := f.nameParts()
	aside := start + f.cfg.Now().UTC().Format(backupTime) + ext
	for n := 1; ; n++ { // two of one millisecond
		if _, err := os.Lstat(aside); errors.Is(err, os.ErrNotExist) {
			break
		}
		aside = start + f.cfg.Now().UTC().Add(time.Duration(n)*time.Millisecond).Format(backupTime) + ext
	}
	if err := os.Rename(f.cfg.Path, aside); err != nil {
		return fmt.Errorf("put the audit log aside: %w", err)
	}
	return errors.Join(f.open(), f.prune())
}

func (f *File) nameParts() (start, ext string) {
	ext = filepath.Ext(f.cfg.Path)
	return strings.TrimSuffix(f.cfg.Path, ext) + "-", ext
}

// prune removes files put aside: those above the number, and those above the age.
func (f *File) prune() error {
	start, ext := f.nameParts()
	entries, err := os.ReadDir(filepath.Dir(f.cfg.Path))
	if err != nil {
		return fmt.Errorf("remove old audit logs: %w", err)
	}
	type aside struct {
		path string
		at   time.Time
	}
	var all []aside
	for _, e := range entries {
		path := filepath.Join(filepath.Dir(f.cfg.Path), e.Name())
		middle, ok := strings.CutPrefix(path, filepath.Clean(start))
		if middle, ok = cutSuffix(middle, ext, ok); !ok {
			continue
		}
		if at, err := time.Parse(backupTime, middle); err == nil {
			all = append(all, aside{path, at})
		}
	}
	slices.SortFunc(all, func(a, b aside) int { return b.at.Compare(a.at) })
	oldest := f.cfg.Now().Add(-time.Duration(f.cfg.MaxAge) * 24 * time.Hour)
	var errs []error
	for i, one := range all {
		if f.cfg.MaxBackups > 0 && i >= f.cfg.MaxBackups || f.cfg.MaxAge > 0 && one.at.Before(oldest) {
			errs = append(errs, os.Remove(one.path))
		}
	}
	return errors.Join(errs...)
}

func cutSuffix(s, suffix string, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	return strings.CutSuffix(s, suffix)
}

// faults logs the first fault and then at most one a minute: a full disk must not fill
// the other log.
type faults struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	last time.Time
	held int
}

func (f *faults) report(what string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held++
	if now := f.now(); now.Sub(f.last) >= time.Minute {
		f.log.Error(what, "error", err, "times", f.held)
		f.last, f.held = now, 0
	}
}
