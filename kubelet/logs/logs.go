// Package logs reads the log files that a container runtime writes, also while they grow
// and are rotated, and rotates them.
//
// The one idea: a reader sleeps until the kernel says that its folder changed, then reads
// all there is; one inotify instance serves every reader of the process. Memory per reader
// is bounded whatever a container writes.
//
// Called by kubelet/server (reading) and wired by cluster/ (rotation).
package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Config of a Reader.
type Config struct {
	Log *slog.Logger
}

// Options of one reading.
type Options struct {
	Follow     bool
	Timestamps bool      // before each line
	Tail       int64     // lines from the end of the file; < 0: all
	Limit      int64     // bytes; 0: any number
	Since      time.Time // zero: all
	Stream     string    // "stdout", "stderr"; empty: both
	// Ended tells, while following, that nothing more will be written. nil: never.
	Ended func(context.Context) bool
}

// Reader reads log files.
type Reader struct {
	log   *slog.Logger
	watch *watcher
}

// New makes a reader; following works while Run does.
func New(cfg Config) (*Reader, error) {
	if cfg.Log == nil {
		return nil, errors.New("logs: Log is required")
	}
	w, err := newWatcher()
	if err != nil {
		return nil, err
	}
	return &Reader{log: cfg.Log, watch: w}, nil
}

// Run passes changes of files on to readers until ctx ends.
func (r *Reader) Run(ctx context.Context) error { return r.watch.run(ctx) }

const (
	bufferSize = 64 << 10
	// askFirst and askMost are how soon and how rarely a follower asks whether the container
	// has ended: soon at first and after a file was closed, rarely as a net below the kernel's
	// events. Before the first look the file may have been closed already.
	askFirst = 20 * time.Millisecond
	askMost  = 10 * time.Second
)

// Read writes the log at path to out. Following, it returns when ctx ends, when the
// container has ended and everything is written, or when the limit is reached.
func (r *Reader) Read(ctx context.Context, path string, o Options, out io.Writer) error {
	t := &tail{path: path, out: out, buf: make([]byte, 0, bufferSize), filter: filter{o: o, left: -1}}
	if o.Limit > 0 {
		t.filter.left = o.Limit
	}
	defer t.close()
	if !o.Follow {
		if err := t.open(o.Tail); err != nil {
			return err
		}
		if err := t.drain(ctx); err != nil {
			return err
		}
		return t.finish()
	}
	folder := filepath.Dir(path)
	changed, err := r.watch.add(folder)
	if err != nil {
		return err
	}
	defer r.watch.remove(folder, changed)
	return t.follow(ctx, changed)
}

// tail is one reading under way.
type tail struct {
	path   string
	out    io.Writer
	file   *os.File
	buf    []byte // read, but not a whole line yet
	filter filter
}

func (t *tail) close() {
	if t.file != nil {
		_ = t.file.Close() // only read from
		t.file = nil
	}
}

func (t *tail) open(lines int64) error {
	f, err := os.OpenFile(t.path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	t.file = f
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if !info.Mode().IsRegular() {
		return errors.New("the log is not a regular file")
	}
	if lines < 0 {
		return nil
	}
	at, err := lineFromEnd(f, info.Size(), lines)
	if err != nil {
		return err
	}
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return fmt.Errorf("seek log: %w", err)
	}
	return nil
}

// lineFromEnd answers where the last n whole lines begin, reading backwards.
func lineFromEnd(f io.ReaderAt, size, n int64) (int64, error) {
	buf := make([]byte, bufferSize)
	for end := size; end > 0; {
		begin := max(end-bufferSize, 0)
		part := buf[:end-begin]
		if _, err := f.ReadAt(part, begin); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read log: %w", err)
		}
		for i := len(part) - 1; i >= 0; i-- {
			if part[i] != '\n' {
				continue
			}
			if n == 0 {
				return begin + int64(i) + 1, nil
			}
			n--
		}
		end = begin
	}
	return 0, nil
}

// drain writes all that the file has now.
func (t *tail) drain(ctx context.Context) error {
	for ctx.Err() == nil && !t.filter.full() {
		n, err := t.file.Read(t.buf[len(t.buf):cap(t.buf)])
		t.buf = t.buf[:len(t.buf)+n]
		t.lines()
		if werr := t.flush(); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
	}
	return ctx.Err()
}

// lines passes whole lines on, and a piece of one that fills the buffer.
func (t *tail) lines() {
	begin := 0
	for i, b := range t.buf {
		if b == '\n' {
			t.filter.record(t.buf[begin:i+1], true)
			begin = i + 1
		}
	}
	if begin == 0 && len(t.buf) == cap(t.buf) {
		t.filter.record(t.buf, false)
		begin = len(t.buf)
	}
	t.buf = t.buf[:copy(t.buf, t.buf[begin:])]
}

func (t *tail) flush() error {
	if len(t.filter.out) == 0 {
		return nil
	}
	_, err := t.out.Write(t.filter.out)
	t.filter.out = t.filter.out[:0]
	if err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	return nil
}

// finish passes on a last line without its end, as a crash of the machine may leave.
func (t *tail) finish() error {
	if len(t.buf) > 0 && !t.filter.full() {
		t.filter.record(t.buf, true)
		t.buf = t.buf[:0]
	}
	return t.flush()
}

func (t *tail) follow(ctx context.Context, changed *signal) error {
	lines, wait := t.filter.o.Tail, askFirst
	for {
		if t.file == nil {
			if err := t.open(lines); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		// Asked before reading: what was written before the end is then read.
		ended := t.filter.o.Ended != nil && t.filter.o.Ended(ctx)
		if t.file != nil {
			lines = -1
			if err := t.drain(ctx); err != nil || t.filter.full() {
				return err
			}
			if t.replaced() {
				if err := errors.Join(t.drain(ctx), t.finish()); err != nil {
					return err
				}
				t.close()
				continue
			}
		}
		if ended {
			return t.finish()
		}
		if changed.takeClosed() {
			wait = askFirst
		}
		asked, err := t.pause(ctx, changed, wait)
		if err != nil {
			return err
		}
		if asked {
			wait = min(wait*2, askMost)
		}
	}
}

// pause waits for news, reading what comes meanwhile without asking anything; true: it is time to ask.
func (t *tail) pause(ctx context.Context, changed *signal, wait time.Duration) (bool, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timer.C:
			return true, nil
		case <-changed.c:
		}
		if t.file == nil || t.replaced() {
			return false, nil
		}
		if err := t.drain(ctx); err != nil {
			return false, err
		}
		changed.mu.Lock()
		closed := changed.closed
		changed.mu.Unlock()
		if closed || t.filter.full() {
			return false, nil
		}
	}
}

// replaced tells that another file took the path: the runtime writes there now.
func (t *tail) replaced() bool {
	now, err := os.Stat(t.path)
	if err != nil {
		return false // renamed, and not opened again yet
	}
	mine, err := t.file.Stat()
	return err == nil && !os.SameFile(now, mine)
}
