package logs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watcher tells readers that something happened in a folder. One inotify instance serves
// all of them: the kernel allows a user only a few.
type watcher struct {
	file *os.File
	fd   int

	mu      sync.Mutex
	byWatch map[int32]*folder
	byPath  map[string]*folder
}

type folder struct {
	path    string
	watch   int32
	readers map[*signal]bool
}

// signal is what a reader waits for.
type signal struct {
	c      chan struct{} // one is enough: the reader looks at everything
	mu     sync.Mutex
	closed bool // a writer has closed a file
}

const watched = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_CLOSE_WRITE | unix.IN_DELETE | unix.IN_ONLYDIR

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make inotify instance: %w", err)
	}
	return &watcher{file: os.NewFile(uintptr(fd), "inotify"), fd: fd, byWatch: map[int32]*folder{}, byPath: map[string]*folder{}}, nil
}

// add begins to signal changes in a folder.
func (w *watcher) add(path string) (*signal, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &signal{c: make(chan struct{}, 1)}
	if f := w.byPath[path]; f != nil {
		f.readers[s] = true
		return s, nil
	}
	id, err := unix.InotifyAddWatch(w.fd, path, watched)
	if err != nil {
		return nil, fmt.Errorf("watch log folder: %w", err)
	}
	f := &folder{path: path, watch: int32(id), readers: map[*signal]bool{s: true}}
	w.byPath[path], w.byWatch[f.watch] = f, f
	return s, nil
}

func (w *watcher) remove(path string, s *signal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.byPath[path]
	if f == nil || !f.readers[s] {
		return
	}
	delete(f.readers, s)
	if len(f.readers) == 0 {
		w.forget(f)
		_, _ = unix.InotifyRmWatch(w.fd, uint32(f.watch)) // fails when the folder is gone, and the watch with it
	}
}

func (w *watcher) forget(f *folder) {
	delete(w.byPath, f.path)
	delete(w.byWatch, f.watch)
}

// run passes the kernel's events on until ctx ends.
func (w *watcher) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = w.file.Close() })
	defer stop()
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read inotify: %w", err), w.file.Close())
		}
		w.events(buf[:n])
	}
}

func (w *watcher) events(buf []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(buf) >= unix.SizeofInotifyEvent {
		id := int32(binary.NativeEndian.Uint32(buf))
		mask := binary.NativeEndian.Uint32(buf[4:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[12:]))
		if mask&unix.IN_Q_OVERFLOW != 0 {
			for _, f := range w.byWatch {
				f.tell(true)
			}
		} else if f := w.byWatch[id]; f != nil {
			f.tell(mask&(unix.IN_CLOSE_WRITE|unix.IN_IGNORED) != 0)
			if mask&unix.IN_IGNORED != 0 { // the folder is gone
				w.forget(f)
			}
		}
		buf = buf[min(size, len(buf)):]
	}
}

func (f *folder) tell(closed bool) {
	for s := range f.readers {
		if closed {
			s.mu.Lock()
			s.closed = true
			s.mu.Unlock()
		}
		select {
		case s.c <- struct{}{}:
		default:
		}
	}
}

// takeClosed answers whether a writer has closed a file since the last call.
func (s *signal) takeClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.closed
	s.closed = false
	return was
}
