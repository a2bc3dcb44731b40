package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"weak"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/proa-dev/proa/apis/api"
)

// Slots is how many encodings of an item are kept; a slot stands for a version and format.
const Slots = 8

// ErrNoProtobuf: the kind has no protobuf form (custom resources).
var ErrNoProtobuf = errors.New("the kind has no protobuf form")

// Item is one object at one revision with its encodings; never changed once it is
// seen. The object is decoded on first need: what was loaded from disk and is never
// looked at costs its stored bytes alone.
type Item struct {
	Revision int64 // of the write (of the deletion, in a Deleted event)

	c      *Collection
	path   string                 // namespace/name, or name
	stored []byte                 // as in etcd
	loaded bool                   // not written by this server as far as it knows: perhaps another's form
	served atomic.Pointer[[]byte] // the message of such an item as clients get it
	object atomic.Pointer[decoded]
	kept   atomic.Pointer[encoding]
	mu     sync.Mutex // one decodes or encodes
}

type decoded struct{ object api.Object }

type encoding struct {
	slot  int
	bytes []byte
	next  *encoding
}

func newItem(c *Collection, path string, revision int64, stored []byte, object api.Object) *Item {
	i := &Item{Revision: revision, c: c, path: path, stored: stored}
	if object != nil {
		i.object.Store(&decoded{object})
	}
	return i
}

// loadedItem is an item that somebody wrote some time.
func loadedItem(c *Collection, path string, revision int64, stored []byte) *Item {
	i := newItem(c, path, revision, stored, nil)
	i.loaded = true
	return i
}

// Object is read-only and shared, with TypeMeta and resourceVersion set. It is nil when
// the stored bytes turn out not to be an object, which is logged once.
func (i *Item) Object() api.Object {
	if d := i.object.Load(); d != nil {
		return d.object
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if d := i.object.Load(); d != nil {
		return d.object
	}
	obj, err := i.c.codec.decode(i.stored, i.Revision)
	if err != nil {
		i.c.reportTorn(i.path, i.Revision, err)
		obj = nil
	}
	i.object.CompareAndSwap(nil, &decoded{obj})
	return i.object.Load().object
}

// torn tells whether the object was found not to decode.
func (i *Item) torn() bool {
	d := i.object.Load()
	return d != nil && d.object == nil
}

// Key gives the namespace ("" for a cluster-scoped kind) and the name.
func (i *Item) Key() (namespace, name string) { return split(i.path) }

// Path is the key as etcd orders it, without the kind's prefix: "namespace/name" or "name".
func (i *Item) Path() string { return i.path }

func split(path string) (namespace, name string) {
	if ns, name, ok := strings.Cut(path, "/"); ok {
		return ns, name
	}
	return "", path
}

// Size is the length of the stored bytes.
func (i *Item) Size() int { return len(i.stored) }

// Encoded gives the item's bytes in a format, made by encode on first need and kept.
// slot is a number that the caller assigns per version and format: below Slots, or, of what is defined
// while the server runs, above it.
func (i *Item) Encoded(slot int, encode func(api.Object) ([]byte, error)) ([]byte, error) {
	return i.keep(slot, func() ([]byte, error) { return encode(i.Object()) })
}

// Kept gives what Encoded has kept in a slot.
func (i *Item) Kept(slot int) ([]byte, bool) { return i.find(slot) }

func (i *Item) keep(slot int, encode func() ([]byte, error)) ([]byte, error) {
	if b, ok := i.find(slot); ok {
		return b, nil
	}
	i.Object() // decoded before the lock, which decoding takes itself
	if i.torn() {
		return nil, errTorn
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if b, ok := i.find(slot); ok {
		return b, nil
	}
	b, err := encode()
	if err != nil {
		return nil, err
	}
	i.kept.Store(&encoding{slot: slot, bytes: b, next: i.kept.Load()})
	i.c.s.encodings.add(i, len(b))
	return b, nil
}

// encodings bounds what all items together keep. The oldest is given up first; items that
// are gone count until it is their turn.
type encodings struct {
	mu    sync.Mutex
	queue []keptBy // from first on
	first int
	bytes int
}

type keptBy struct {
	item weak.Pointer[Item]
	size int
}

// maxEncodings is in bytes: the JSON of 30,000 pods.
const maxEncodings = 128 << 20

func (e *encodings) add(i *Item, size int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, keptBy{weak.Make(i), size})
	e.bytes += size
	for e.bytes > maxEncodings && e.first < len(e.queue)-1 {
		oldest := e.queue[e.first]
		if item := oldest.item.Value(); item != nil {
			item.kept.Store(nil)
		}
		e.bytes -= oldest.size
		e.queue[e.first] = keptBy{}
		e.first++
	}
	if e.first > len(e.queue)/2 {
		e.queue = slices.Delete(e.queue, 0, e.first)
		e.first = 0
	}
}

func (i *Item) find(slot int) ([]byte, bool) {
	for e := i.kept.Load(); e != nil; e = e.next {
		if e.slot == slot {
			return e.bytes, true
		}
	}
	return nil, false
}

// Protobuf is AppendProtobuf into a buffer of its own.
func (i *Item) Protobuf() ([]byte, error) { return i.AppendProtobuf(nil) }

// AppendProtobuf appends the wire form: the stored envelope with resourceVersion spliced
// into the object, never encoded again. Nothing is kept: it costs no more than copying it.
func (i *Item) AppendProtobuf(dst []byte) ([]byte, error) {
	s, err := i.splice()
	if err != nil {
		return dst, err
	}
	size, header := s.size(), i.c.codec.wire
	dst = slices.Grow(dst, len(header)+binary.MaxVarintLen32+size+len(trailer))
	dst = binary.AppendUvarint(append(dst, header...), uint64(size))
	return append(s.append(dst), trailer...), nil
}

// ProtobufSize is the length of what AppendProtobuf appends.
func (i *Item) ProtobufSize() (int, error) {
	s, err := i.splice()
	if err != nil {
		return 0, err
	}
	var length [binary.MaxVarintLen32]byte
	size := s.size()
	return len(i.c.codec.wire) + binary.PutUvarint(length[:], uint64(size)) + size + len(trailer), nil
}

// MessageSize is the length of what AppendMessage appends.
func (i *Item) MessageSize() (int, error) {
	s, err := i.splice()
	if err != nil {
		return 0, err
	}
	return s.size(), nil
}

// AppendMessage appends the protobuf message of the object (no envelope), with its
// resourceVersion: an element of a list. Nothing is kept.
func (i *Item) AppendMessage(dst []byte) ([]byte, error) {
	s, err := i.splice()
	if err != nil {
		return dst, err
	}
	return s.append(dst), nil
}

func (i *Item) splice() (splice, error) {
	if i.loaded || !bytes.HasPrefix(i.stored, i.c.codec.header) {
		raw, err := i.settled()
		if err != nil {
			return splice{}, err
		}
		return newSplice(raw, i.Revision)
	}
	env, err := open(i.stored)
	if err != nil {
		return splice{}, err
	}
	return newSplice(env.raw, i.Revision)
}

// settled is the message of an item that another server or an earlier release may have
// stored: in another version or as JSON, or without fields that have a default by now.
func (i *Item) settled() ([]byte, error) {
	if raw := i.served.Load(); raw != nil {
		return *raw, nil
	}
	obj, err := i.c.codec.decode(i.stored, i.Revision)
	if err != nil {
		i.c.reportTorn(i.path, i.Revision, err)
		return nil, errTorn
	}
	if _, ok := obj.(message); !ok {
		return nil, ErrNoProtobuf
	}
	value, err := i.c.codec.encode(obj)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(value, i.stored) {
		value = i.stored // one copy
	}
	env, err := open(value)
	if err != nil {
		return nil, err
	}
	i.served.Store(&env.raw)
	return env.raw, nil
}

// at is the same object at another revision: what a deletion shows.
func (i *Item) at(revision int64) *Item {
	out := newItem(i.c, i.path, revision, i.stored, nil)
	out.loaded = i.loaded
	out.served.Store(i.served.Load())
	if d := i.object.Load(); d != nil {
		out.object.Store(&decoded{withRevision(d.object, revision)})
	}
	return out
}

// withRevision copies no more than what holds resourceVersion.
func withRevision(obj api.Object, revision int64) api.Object {
	if obj == nil {
		return nil
	}
	version := strconv.FormatInt(revision, 10)
	if u, ok := obj.(*unstructured.Unstructured); ok {
		out := &unstructured.Unstructured{Object: maps.Clone(u.Object)}
		if meta, ok := out.Object["metadata"].(map[string]any); ok {
			out.Object["metadata"] = maps.Clone(meta)
		}
		out.SetResourceVersion(version)
		return out
	}
	from := reflect.ValueOf(obj)
	out := reflect.New(from.Type().Elem())
	out.Elem().Set(from.Elem())
	shallow := out.Interface().(api.Object)
	shallow.SetResourceVersion(version)
	return shallow
}
