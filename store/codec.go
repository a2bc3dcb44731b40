package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// magic starts a value in protobuf; anything else is JSON (custom resources).
var magic = []byte("k8s\x00")

// trailer is the empty contentEncoding and contentType that upstream writes.
var trailer = []byte{0x1a, 0x00, 0x22, 0x00}

var errTorn = errors.New("the bytes are not those of an object")

// message is what the types of k8s.io/api can do.
type message interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
}

// codec turns objects of one kind into what etcd keeps and back.
type codec struct {
	kind   *api.Kind
	header []byte // magic and TypeMeta of the envelope, up to the tag of raw
	wire   []byte // header of what clients get
}

func newCodec(kind *api.Kind) codec {
	written := kind.GroupVersionKind
	if kind.Written != "" {
		written.Version = kind.Written
	}
	return codec{kind: kind, header: header(written), wire: header(kind.GroupVersionKind)}
}

func header(gvk schema.GroupVersionKind) []byte {
	version, name := gvk.ToAPIVersionAndKind()
	meta := binary.AppendUvarint([]byte{0x0a}, uint64(len(version)))
	meta = append(meta, version...)
	meta = binary.AppendUvarint(append(meta, 0x12), uint64(len(name)))
	meta = append(meta, name...)
	out := binary.AppendUvarint(append(bytes.Clone(magic), 0x0a), uint64(len(meta)))
	return append(append(out, meta...), 0x12)
}

// encode gives the stored form. The object's resourceVersion is cleared: it is the
// revision under which etcd keeps it.
func (c *codec) encode(obj api.Object) ([]byte, error) {
	obj.SetResourceVersion("")
	obj.SetSelfLink("")
	m, ok := obj.(message)
	if !ok {
		obj.GetObjectKind().SetGroupVersionKind(c.gvk(obj))
		return json.Marshal(obj)
	}
	size := m.Size()
	out := make([]byte, 0, len(c.header)+binary.MaxVarintLen32+size+len(trailer))
	out = append(out, c.header...)
	out = binary.AppendUvarint(out, uint64(size))
	body := out[len(out) : len(out)+size]
	n, err := m.MarshalToSizedBuffer(body)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", c.kind.Kind, err)
	}
	if n != size {
		return nil, fmt.Errorf("encode %s: wrote %d of %d bytes", c.kind.Kind, n, size)
	}
	return append(out[:len(out)+size], trailer...), nil
}

// decode gives the object of a stored value at a revision.
func (c *codec) decode(value []byte, revision int64) (api.Object, error) {
	obj, err := c.decodeAny(value)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", c.kind.Kind, err)
	}
	if _, ok := obj.(*unstructured.Unstructured); !ok {
		obj.GetObjectKind().SetGroupVersionKind(c.kind.GroupVersionKind)
		c.kind.Default(obj)
	}
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	return obj, nil
}

// decodeAny reads what this server writes, and the kind's earlier versions.
func (c *codec) decodeAny(value []byte) (api.Object, error) {
	if !bytes.HasPrefix(value, magic) {
		return c.decodeJSON(value)
	}
	env, err := open(value)
	if err != nil {
		return nil, err
	}
	return c.decodeVersion(env.gvk(), func(obj api.Object) error {
		m, ok := obj.(message)
		if !ok {
			return fmt.Errorf("%T has no protobuf form", obj)
		}
		return m.Unmarshal(env.raw)
	})
}

func (c *codec) decodeJSON(value []byte) (api.Object, error) {
	decode := func(obj api.Object) error { return json.Unmarshal(value, obj) }
	if obj, ok := c.kind.New().(*unstructured.Unstructured); ok {
		return obj, decode(obj)
	}
	var as metav1.TypeMeta
	if err := json.Unmarshal(value, &as); err != nil {
		return nil, err
	}
	return c.decodeVersion(as.GroupVersionKind(), decode)
}

// decodeVersion lets decode fill an object of what the value says it is.
func (c *codec) decodeVersion(gvk schema.GroupVersionKind, decode func(api.Object) error) (api.Object, error) {
	if gvk.Group != c.kind.Group || gvk.Kind != c.kind.Kind {
		return nil, fmt.Errorf("stored as %s", gvk)
	}
	if gvk.Version == c.kind.Version || slices.Contains(c.kind.Alike, gvk.Version) {
		obj := c.kind.New()
		return obj, decode(obj)
	}
	for _, e := range c.kind.Earlier {
		if e.Version == gvk.Version {
			old := e.New()
			if err := decode(old); err != nil {
				return nil, err
			}
			return e.To(old)
		}
	}
	return nil, fmt.Errorf("stored as %s", gvk)
}

// check tells a torn value from a whole one by its frame, without decoding it.
func check(value []byte) error {
	if bytes.HasPrefix(value, magic) {
		env, err := open(value)
		if err != nil {
			return err
		}
		_, _, err = metadata(env.raw)
		return err
	}
	if !json.Valid(value) {
		return errTorn
	}
	return nil
}

// gvk is what an object is stored as: custom resources say it themselves, as they are
// kept in whatever version they were written in.
func (c *codec) gvk(obj api.Object) schema.GroupVersionKind {
	if u, ok := obj.(*unstructured.Unstructured); ok && !u.GroupVersionKind().Empty() {
		return u.GroupVersionKind()
	}
	return c.kind.GroupVersionKind
}

// envelope is an opened runtime.Unknown.
type envelope struct {
	apiVersion, kind string
	raw              []byte
}

func (e *envelope) gvk() schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(e.apiVersion, e.kind)
}

func open(value []byte) (envelope, error) {
	var e envelope
	err := fields(value[len(magic):], func(number int, body []byte) error {
		switch number {
		case 1:
			return fields(body, func(number int, s []byte) error {
				switch number {
				case 1:
					e.apiVersion = string(s)
				case 2:
					e.kind = string(s)
				}
				return nil
			})
		case 2:
			e.raw = body
		case 3:
			if len(body) > 0 {
				return fmt.Errorf("unknown content encoding %q", body)
			}
		}
		return nil
	})
	if err == nil && e.raw == nil {
		err = errTorn
	}
	return e, err
}

// fields walks the top level of a message; body is nil for what is not length-delimited.
func fields(b []byte, visit func(number int, body []byte) error) error {
	for len(b) > 0 {
		number, body, n := field(b)
		if n <= 0 {
			return errTorn
		}
		if err := visit(number, body); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// field reads one field; n is its whole length, 0 when it is torn.
func field(b []byte) (number int, body []byte, n int) {
	tag, t := binary.Uvarint(b)
	if t <= 0 || tag>>3 == 0 || tag>>3 > 1<<29 {
		return 0, nil, 0
	}
	number = int(tag >> 3)
	switch tag & 7 {
	case 0:
		_, v := binary.Uvarint(b[t:])
		if v <= 0 {
			return 0, nil, 0
		}
		return number, nil, t + v
	case 1:
		if len(b) < t+8 {
			return 0, nil, 0
		}
		return number, nil, t + 8
	case 2:
		size, v := binary.Uvarint(b[t:])
		if v <= 0 || size > uint64(len(b)-t-v) {
			return 0, nil, 0
		}
		start, end := t+v, t+v+int(size)
		return number, b[start:end:end], end
	case 5:
		if len(b) < t+4 {
			return 0, nil, 0
		}
		return number, nil, t + 4
	}
	return 0, nil, 0
}

// Field numbers: ObjectMeta is the first of every object, resourceVersion its sixth.
const (
	metadataField        = 1
	resourceVersionField = 6
)

// metadata finds ObjectMeta in a message: its body, and where the field ends. It is
// the first field wherever it is present at all (end 0: it is not).
func metadata(raw []byte) (body []byte, end int, err error) {
	if err := fields(raw, func(int, []byte) error { return nil }); err != nil {
		return nil, 0, err
	}
	if len(raw) == 0 {
		return nil, 0, nil
	}
	number, body, n := field(raw)
	if number != metadataField || body == nil {
		return nil, 0, nil
	}
	return body, n, fields(body, func(int, []byte) error { return nil })
}

// splice describes how resourceVersion is put into a message that has none.
type splice struct {
	before, after []byte // of ObjectMeta's body, around resourceVersion
	rest          []byte // of the message, after ObjectMeta
	version       string
}

func newSplice(raw []byte, revision int64) (splice, error) {
	s := splice{rest: raw, version: strconv.FormatInt(revision, 10)}
	if len(raw) == 0 {
		return s, nil
	}
	number, meta, n := field(raw)
	if n == 0 {
		return s, errTorn
	}
	if number != metadataField || meta == nil {
		return s, nil
	}
	s.rest = raw[n:]
	at := 0
	for at < len(meta) {
		number, _, n := field(meta[at:])
		if n == 0 {
			return s, errTorn
		}
		if number == resourceVersionField {
			s.before, s.after = meta[:at], meta[at+n:]
			return s, nil
		}
		if number > resourceVersionField {
			break
		}
		at += n
	}
	s.before, s.after = meta[:at], meta[at:]
	return s, nil
}

func (s *splice) metaSize() int {
	return len(s.before) + 2 + len(s.version) + len(s.after)
}

func (s *splice) size() int {
	m := s.metaSize()
	return 1 + protowire.SizeVarint(uint64(m)) + m + len(s.rest)
}

func (s *splice) append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, 0x0a), uint64(s.metaSize()))
	dst = append(dst, s.before...)
	dst = append(dst, resourceVersionField<<3|2, byte(len(s.version)))
	dst = append(dst, s.version...)
	dst = append(dst, s.after...)
	return append(dst, s.rest...)
}
