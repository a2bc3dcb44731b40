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

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/proa-dev/proa/apis/api"
)

// Slots is how many encodings of an item are kept; a slot stands for a version and format.
const Slots = 8

// ErrNoProtobuf: the kind has no protobuf form (custom resources).
var ErrNoProtobuf = errors.New("the kind has no protobuf form")

// Item is one object at one revision with its encodings; never changed once it is
// seen. The object is decoded on first need: what was loaded from disk and is never
// looked at costs its stored bytes alone, and those are kept packed. What an object has
// in common with another of its class is shared with that one.
type Item struct {
	Revision int64 // of the write (of the deletion, in a Deleted event)

	c      *Collection
	path   string                 // namespace/name, or name
	stored text                   // as in etcd
	length atomic.Int32           // of the message that clients get, if that is the stored one; 0: not known to be
	served atomic.Pointer[[]byte] // the message that clients get, where it is another
	object atomic.Pointer[decoded]
	kept   atomic.Pointer[encoding]
	mu     sync.Mutex // one decodes or encodes
}

type decoded struct{ object api.Object }

type encoding struct {
	slot int
	text text
	next *encoding
}

// newItem takes a value, and the object if there is one already, which nobody else may change.
func newItem(c *Collection, path string, revision int64, stored []byte, object api.Object) *Item {
	i := loadedItem(c, path, revision, stored)
	i.settle(stored)
	if object != nil {
		i.object.Store(i.common(object))
	}
	return i
}

// loadedItem is an item that somebody wrote some time: perhaps in another form.
func loadedItem(c *Collection, path string, revision int64, stored []byte) *Item {
	return &Item{Revision: revision, c: c, path: path, stored: c.bases.fit(path, stored)}
}

// settle notes that clients get the stored message, if it is one.
func (i *Item) settle(stored []byte) {
	if !bytes.HasPrefix(stored, i.c.codec.header) {
		return
	}
	if env, err := open(stored); err == nil {
		if s, err := newSplice(env.raw, i.Revision); err == nil {
			i.length.Store(int32(s.size()))
		}
	}
}

// common shares the parts of a new object with another of its class.
func (i *Item) common(obj api.Object) *decoded {
	d := &decoded{obj}
	if b := i.stored.base; b != nil && !b.object.CompareAndSwap(nil, d) {
		share(obj, b.object.Load().object)
	}
	return d
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
	scratch := scratches.Get().(*[]byte)
	obj, err := i.c.codec.decode(i.stored.in(scratch), i.Revision)
	scratches.Put(scratch)
	d := &decoded{}
	if err != nil {
		i.c.reportTorn(i.path, i.Revision, err)
	} else {
		d = i.common(obj)
	}
	i.object.CompareAndSwap(nil, d)
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
func (i *Item) Size() int { return i.stored.size }

// stores tells whether a value is the item's.
func (i *Item) stores(value []byte) bool {
	if i.stored.size != len(value) {
		return false
	}
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	return bytes.Equal(i.stored.in(scratch), value)
}

// Encoded is AppendEncoded into a buffer of its own, or one that is kept: read-only.
func (i *Item) Encoded(slot int, encode func(api.Object) ([]byte, error)) ([]byte, error) {
	t, err := i.keep(slot, encode)
	if err != nil {
		return nil, err
	}
	return t.in(new([]byte)), nil
}

// AppendEncoded appends the item's bytes in a format, made by encode on first need and kept.
// slot is a number that the caller assigns per version and format: below Slots, or, of what is defined
// while the server runs, above it.
func (i *Item) AppendEncoded(dst []byte, slot int, encode func(api.Object) ([]byte, error)) ([]byte, error) {
	t, err := i.keep(slot, encode)
	if err != nil {
		return dst, err
	}
	return t.append(dst), nil
}

// Kept gives what Encoded has kept in a slot.
func (i *Item) Kept(slot int) ([]byte, bool) {
	if t := i.find(slot); t != nil {
		return t.in(new([]byte)), true
	}
	return nil, false
}

func (i *Item) keep(slot int, encode func(api.Object) ([]byte, error)) (*text, error) {
	if t := i.find(slot); t != nil {
		return t, nil
	}
	obj := i.Object() // decoded before the lock, which decoding takes itself
	if i.torn() {
		return nil, errTorn
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if t := i.find(slot); t != nil {
		return t, nil
	}
	b, err := encode(obj)
	if err != nil {
		return nil, err
	}
	e := &encoding{slot: slot, text: i.stored.form(slot, b), next: i.kept.Load()}
	i.kept.Store(e)
	i.c.s.encodings.add(i, e.text.held())
	return &e.text, nil
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

func (i *Item) find(slot int) *text {
	for e := i.kept.Load(); e != nil; e = e.next {
		if e.slot == slot {
			return &e.text
		}
	}
	return nil
}

// Protobuf is AppendProtobuf into a buffer of its own.
func (i *Item) Protobuf() ([]byte, error) { return i.AppendProtobuf(nil) }

// AppendProtobuf appends the wire form: the stored envelope with resourceVersion spliced
// into the object, never encoded again. Nothing is kept: it costs no more than copying it.
func (i *Item) AppendProtobuf(dst []byte) ([]byte, error) {
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	s, err := i.splice(scratch)
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
	size, err := i.MessageSize()
	return len(i.c.codec.wire) + protowire.SizeVarint(uint64(size)) + size + len(trailer), err
}

// MessageSize is the length of what AppendMessage appends.
func (i *Item) MessageSize() (int, error) {
	if known := i.length.Load(); known > 0 {
		return int(known), nil
	}
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	s, err := i.splice(scratch)
	if err != nil {
		return 0, err
	}
	return s.size(), nil
}

// AppendMessage appends the protobuf message of the object (no envelope), with its
// resourceVersion: an element of a list. Nothing is kept.
func (i *Item) AppendMessage(dst []byte) ([]byte, error) {
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	s, err := i.splice(scratch)
	if err != nil {
		return dst, err
	}
	return s.append(dst), nil
}

// splice is valid as long as scratch is.
func (i *Item) splice(scratch *[]byte) (splice, error) {
	if i.length.Load() == 0 {
		raw, err := i.settled(scratch)
		if err != nil {
			return splice{}, err
		}
		return newSplice(raw, i.Revision)
	}
	stored := i.stored.in(scratch)[len(i.c.codec.header):]
	size, n := binary.Uvarint(stored)
	return newSplice(stored[n:n+int(size)], i.Revision)
}

// settled is the message of an item that another server or an earlier release may have
// stored: in another version or as JSON, or without fields that have a default by now.
func (i *Item) settled(scratch *[]byte) ([]byte, error) {
	if raw := i.served.Load(); raw != nil {
		return *raw, nil
	}
	stored := i.stored.in(scratch)
	obj, err := i.c.codec.decode(stored, i.Revision)
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
	env, err := open(value)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(value, stored) {
		i.settle(stored)
	} else {
		i.served.Store(&env.raw)
	}
	return env.raw, nil
}

// at is the same object at another revision: what a deletion shows.
func (i *Item) at(revision int64) *Item {
	out := &Item{Revision: revision, c: i.c, path: i.path, stored: i.stored}
	if i.length.Load() > 0 {
		scratch := scratches.Get().(*[]byte)
		out.settle(out.stored.in(scratch))
		scratches.Put(scratch)
	}
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
