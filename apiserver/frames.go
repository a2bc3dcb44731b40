package apiserver

import (
	"sync/atomic"

	"github.com/proa-dev/proa/store"
)

// frames keeps the last events of all kinds as they are sent in protobuf, where many watch
// the same: each is put together once and copied after that. What happens within a moment
// has neighbouring revisions, so that the place of an event is its revision's last bits.
type frames struct {
	last [64]atomic.Pointer[frame]
}

type frame struct {
	item *store.Item
	kind store.EventType
	raw  []byte
}

// keptFrame is the size in bytes above which a frame is not kept: at most 1 MiB is held by all.
const keptFrame = 16 << 10

// frames gives the shared ones to a watch that has company; nil: it makes its own.
func (r *request) frames(w *store.Watcher) *frames {
	if w.Company() < 2 {
		return nil
	}
	return &r.s.frames
}

// append writes an event's frame to dst.
func (f *frames) append(dst []byte, e *store.Event) ([]byte, error) {
	if f == nil {
		return appendFrame(dst, e)
	}
	place := &f.last[uint64(e.Revision)%uint64(len(f.last))]
	if kept := place.Load(); kept != nil && kept.item == e.Item && kept.kind == e.Type {
		return append(dst, kept.raw...), nil
	}
	from := len(dst)
	dst, err := appendFrame(dst, e)
	if err == nil && len(dst)-from <= keptFrame {
		place.Store(&frame{item: e.Item, kind: e.Type, raw: append([]byte(nil), dst[from:]...)})
	}
	return dst, err
}

func appendFrame(dst []byte, e *store.Event) ([]byte, error) {
	size, err := e.Item.ProtobufSize()
	if err != nil {
		return dst, err
	}
	return e.Item.AppendProtobuf(frameProtobuf(dst, eventNames[e.Type], size))
}
