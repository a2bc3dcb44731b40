package host

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Journal is the list of changes made to the machine, one JSON line each, in a file that
// only grows while proa runs. Safe for concurrent use.
type Journal struct {
	mu      sync.Mutex
	path    string
	file    *os.File
	changes []Change
	known   map[Change]bool
	damaged int // lines that could not be read
}

var _ Recorder = (*Journal)(nil)

// maxLine bounds one line of the journal.
const maxLine = 64 << 10

// Open reads the journal at path, making it (mode 0600, with its folder) when missing. A
// last line torn by a crash is cut off: its change had not been made yet. Other lines that
// cannot be read are kept in the file, skipped, and reported by Undo.
func Open(path string) (*Journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{path: path, file: file, known: map[Change]bool{}}
	if err := j.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open journal %s: %w", path, err), file.Close())
	}
	return j, nil
}

func (j *Journal) load() error {
	data, err := os.ReadFile(j.path)
	if err != nil {
		return err
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	if whole < len(data) {
		if err := j.file.Truncate(int64(whole)); err != nil {
			return err
		}
	}
	if _, err := j.file.Seek(int64(whole), 0); err != nil {
		return err
	}
	j.changes, j.damaged = parse(data[:whole])
	for _, c := range j.changes {
		j.known[c] = true
	}
	return syncDir(filepath.Dir(j.path))
}

// parse reads the lines of a journal; the second result counts those that it could not read.
func parse(data []byte) (changes []Change, damaged int) {
	known := map[Change]bool{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, max(maxLine, len(data)+1))
	for lines.Scan() {
		var c Change
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if json.Unmarshal(lines.Bytes(), &c) != nil || check(c) != nil {
			damaged++
			continue
		}
		if !known[c] {
			known[c] = true
			changes = append(changes, c)
		}
	}
	return changes, damaged
}

// Record writes the change down, fsynced, unless it is there already. For a Sysctl the
// first Before stays the one that is written back.
func (j *Journal) Record(c Change) error {
	if err := check(c); err != nil {
		return fmt.Errorf("record change: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.known[c] || (c.Kind == Sysctl && j.hasSysctl(c)) {
		return nil
	}
	line, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("record change: %w", err)
	}
	if len(line) > maxLine {
		return fmt.Errorf("record change: %s of %d bytes is too long", c.Kind, len(line))
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("record change: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("record change: %w", err)
	}
	j.known[c] = true
	j.changes = append(j.changes, c)
	return nil
}

func (j *Journal) hasSysctl(c Change) bool {
	return slices.ContainsFunc(j.changes, func(o Change) bool {
		return o.Kind == Sysctl && o.Name == c.Name && o.Netns == c.Netns
	})
}

// Changes returns what is recorded, oldest first.
func (j *Journal) Changes() []Change {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.changes)
}

// Close closes the file; the changes stay recorded.
func (j *Journal) Close() error { return j.file.Close() }

// Scope says how far Undo goes.
type Scope int

// The scopes: down ends everything that runs and keeps folders that are not Volatile;
// uninstall removes these too.
const (
	ScopeDown Scope = iota
	ScopeUninstall
)

// Undo undoes the changes in scope, newest first, and tells each through report (may be
// nil). A change that cannot be undone stays recorded and does not stop the others; their
// errors come back joined. What is already gone counts as undone, so Undo may be repeated,
// also after it was killed half way. After an uninstall without errors the journal is removed.
func (j *Journal) Undo(ctx context.Context, scope Scope, report func(string)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if report == nil {
		report = func(string) {}
	}
	if j.damaged > 0 {
		report(fmt.Sprintf("%d lines of %s are damaged and were skipped", j.damaged, j.path))
	}
	var kept []Change
	var errs []error
	for _, c := range slices.Backward(j.changes) {
		if c.Kind == Path && !c.Volatile && scope != ScopeUninstall {
			kept = append(kept, c)
			continue
		}
		done, err := undo(ctx, c)
		if err != nil {
			errs = append(errs, fmt.Errorf("undo %s %s: %w", c.Kind, c.Name, err))
			kept = append(kept, c)
			continue
		}
		if done != "" {
			report(done)
		}
	}
	slices.Reverse(kept)
	errs = append(errs, j.rewrite(kept))
	return errors.Join(errs...)
}

// rewrite replaces the journal by one with these changes; none removes the file.
func (j *Journal) rewrite(changes []Change) error {
	j.changes, j.known = changes, map[Change]bool{}
	var buf bytes.Buffer
	for _, c := range changes {
		j.known[c] = true
		line, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("rewrite journal: %w", err)
		}
		buf.Write(append(line, '\n'))
	}
	if len(changes) == 0 {
		if err := os.Remove(j.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove journal: %w", err)
		}
		return nil
	}
	fresh, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	_, err = fresh.Write(buf.Bytes())
	if err == nil {
		err = fresh.Sync()
	}
	if err == nil {
		err = os.Rename(j.path+".new", j.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("rewrite journal: %w", err), fresh.Close())
	}
	old := j.file
	j.file = fresh
	return errors.Join(old.Close(), syncDir(filepath.Dir(j.path)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
