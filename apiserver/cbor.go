package apiserver

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cbor "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store"
)

// cborStart is the tag that opens each item which is an answer or an event, so that it is known as CBOR.
var cborStart = []byte{0xd9, 0xd9, 0xf7}

// encodeCBOR is an object as an answer.
func encodeCBOR(obj runtime.Object) ([]byte, error) {
	raw, err := cborItem(obj)
	return append(cborStart[:len(cborStart):len(cborStart)], raw...), err
}

// cborBytes is an item as an answer, kept with it unless its kind is defined while the server runs.
func (r *request) cborBytes(item *store.Item) ([]byte, error) {
	if r.kind.Custom == nil {
		return item.Encoded(r.kind.slot.cbor, r.kind.marshalCBOR)
	}
	obj, err := r.view(item)
	if err != nil {
		return nil, err
	}
	return encodeCBOR(obj)
}

// marshalCBOR is a stored object as an answer, with its TypeMeta in front, see cborHeader.
func (k *served) marshalCBOR(obj api.Object) ([]byte, error) {
	if k.FromStored != nil {
		obj = k.FromStored(obj)
	}
	raw, err := cbor.Marshal(bare(obj))
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 || raw[0] < 0xa0 || raw[0] > 0xb5 {
		return nil, fmt.Errorf("%s is no map of a few fields in CBOR", k.Kind)
	}
	out := append(append([]byte(nil), cborStart...), raw[0]+2)
	return append(append(out, k.cborHeader()...), raw[1:]...), nil
}

// cborHeader are the first two entries of each object of the kind. Elements of typed lists are
// without them.
func (k *served) cborHeader() []byte {
	version, kind := k.ToAPIVersionAndKind()
	return appendCBORText(appendCBORText(appendCBORText(appendCBORText(nil, "kind"), kind), "apiVersion"), version)
}

// appendCBORElement appends an item as an element of a list.
func (r *request) appendCBORElement(dst []byte, item *store.Item, header int) ([]byte, error) {
	if r.kind.Custom != nil { // whose lists are of no type, so that each item has its own
		obj, err := r.view(item)
		if err != nil {
			return dst, err
		}
		raw, err := cborItem(obj)
		return append(dst, raw...), err
	}
	at := len(dst)
	dst, err := item.AppendEncoded(dst, r.kind.slot.cbor, r.kind.marshalCBOR)
	if err != nil {
		return dst, err
	}
	start := at + len(cborStart)
	return slices.Replace(dst, at, start+1+header, dst[start]-2), nil
}

// cborItem is an object as a part of something.
func cborItem(obj runtime.Object) ([]byte, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return cbor.Marshal(u.Object)
	}
	return cbor.Marshal(obj)
}

// cborPage writes a list item by item. Items of typed lists are without kind and apiVersion.
func (r *request) cborPage(p *page) error {
	version, kind := r.kind.ListKind().ToAPIVersionAndKind()
	meta, err := cbor.Marshal(p.meta())
	if err != nil {
		return err
	}
	head := append(cborStart[:len(cborStart):len(cborStart)], 0xa4) // a map of four
	head = appendCBORText(appendCBORText(head, "kind"), kind)
	head = appendCBORText(appendCBORText(head, "apiVersion"), version)
	head = append(appendCBORText(head, "metadata"), meta...)
	head = appendCBORHead(appendCBORText(head, "items"), 4, len(p.items))
	header := len(r.kind.cborHeader())
	w, done := r.stream(p.size())
	defer done()
	return p.write(w, head, func(buf []byte, _ int, item *store.Item) ([]byte, error) {
		return r.appendCBORElement(buf, item, header)
	}, nil)
}

// bare is a typed object without kind and apiVersion, shallowly copied.
func bare(obj api.Object) api.Object {
	copied := reflect.New(reflect.TypeOf(obj).Elem())
	copied.Elem().Set(reflect.ValueOf(obj).Elem())
	one := copied.Interface().(api.Object)
	one.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return one
}

// frameCBOR puts an encoded object into a watch event: an item of its own, after the one before.
func frameCBOR(dst []byte, kind watch.EventType, raw []byte) []byte {
	dst = append(append(dst, cborStart...), 0xa2) // a map of two
	dst = appendCBORText(appendCBORText(dst, "type"), string(kind))
	return append(appendCBORText(dst, "object"), raw...)
}

// appendCBORText writes a text as a byte string, as all texts are written.
func appendCBORText(dst []byte, s string) []byte {
	return append(appendCBORHead(dst, 2, len(s)), s...)
}

// appendCBORHead begins an item of a major type with its length.
func appendCBORHead(dst []byte, major byte, n int) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
}
