package store

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

// reserve is the free space below which nothing more is stored (deletions still are):
// etcd cannot go on once a write to its log has failed, and it allocates 64 MiB at a time.
const reserve = 96 << 20

// disk watches the space left to etcd.
type disk struct {
	dir     string
	checked atomic.Int64 // UnixNano of the last look
	free    atomic.Uint64
}

// full looks at most once a second.
func (d *disk) full() error {
	if d.dir == "" {
		return nil
	}
	now, last := time.Now().UnixNano(), d.checked.Load()
	if now-last > int64(time.Second) && d.checked.CompareAndSwap(last, now) {
		var st syscall.Statfs_t
		if err := syscall.Statfs(d.dir, &st); err != nil {
			return fmt.Errorf("look at the disk of the store: %w", err)
		}
		d.free.Store(st.Bavail*uint64(st.Bsize) + 1)
	}
	if free := d.free.Load(); free > 0 && free < reserve {
		return fmt.Errorf("%w: %d MiB are left in %s, %d are needed", ErrFull, free>>20, d.dir, reserve>>20)
	}
	return nil
}

// maxValue is etcd's limit of a request, less what surrounds the value.
const maxValue = 3<<19 - 1024

// writable tells why a value of this size cannot be stored.
func (s *Store) writable(size int) error {
	if size > maxValue {
		return ErrTooLarge
	}
	if err := s.broken(); err != nil {
		return err
	}
	return s.disk.full()
}
