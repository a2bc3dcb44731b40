package apiserver

import (
	"encoding/binary"
	"io"
	"reflect"

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
	k := r.kind
	if k.Custom == nil {
		return item.Encoded(k.slot.cbor, func(obj api.Object) ([]byte, error) {
			if k.FromStored != nil {
				obj = k.FromStored(obj)
			}
			return encodeCBOR(obj)
		})
	}
	obj, err := r.view(item)
	if err != nil {
		return nil, err
	}
	return encodeCBOR(obj)
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
	size := 0
	for _, i := range p.items {
		size += i.Size()
	}
	w, done := r.stream(size)
	defer done()
	return r.writeCBORPage(w, p)
}

func (r *request) writeCBORPage(w io.Writer, p *page) error {
	version, kind := r.kind.ListKind().ToAPIVersionAndKind()
	meta, err := cbor.Marshal(p.meta())
	if err != nil {
		return err
	}
	buf := append(make([]byte, 0, chunk+8192), cborStart...)
	buf = append(buf, 0xa4) // a map of four
	buf = appendCBORText(appendCBORText(buf, "kind"), kind)
	buf = appendCBORText(appendCBORText(buf, "apiVersion"), version)
	buf = append(appendCBORText(buf, "metadata"), meta...)
	buf = appendCBORHead(appendCBORText(buf, "items"), 4, len(p.items))
	for _, item := range p.items {
		obj, err := r.view(item)
		if err != nil {
			return err
		}
		raw, err := cborItem(bare(obj))
		if err != nil {
			return err
		}
		if buf = append(buf, raw...); len(buf) >= chunk {
			if _, err := w.Write(buf); err != nil {
				return nil // a client that went away
			}
			buf = buf[:0]
		}
	}
	_, _ = w.Write(buf)
	return nil
}

// bare is a typed object without kind and apiVersion, shallowly copied.
func bare(obj api.Object) api.Object {
	if _, ok := obj.(*unstructured.Unstructured); ok {
		return obj
	}
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
