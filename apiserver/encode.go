package apiserver

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store"
)

// itemBytes is an item in the choice's form, from what is kept with it where that form is
// asked for often.
func (r *request) itemBytes(item *store.Item) ([]byte, error) {
	k := r.kind
	switch {
	case r.out.as == "Table":
		return r.tableBytes([]*store.Item{item}, true, "")
	case r.out.as != "":
		return r.metaBytes(item)
	case r.out.media == typeProtobuf && k.FromStored == nil:
		return item.Protobuf()
	case r.out.media == typeProtobuf:
		return item.Encoded(k.slot.protobuf, func(obj api.Object) ([]byte, error) { return encodeProtobuf(k.FromStored(obj)) })
	case r.out.media == typeCBOR:
		return r.cborBytes(item)
	}
	raw, err := r.json(item)
	if err == nil && r.out.media == typeYAML {
		return yaml.JSONToYAML(raw)
	}
	return raw, err
}

// json is the JSON of an item in the kind's version, kept with it. Its TypeMeta comes
// first, see jsonHeader.
func (r *request) json(item *store.Item) ([]byte, error) {
	k := r.kind
	if k.Custom != nil {
		return r.customJSON(item)
	}
	return item.Encoded(k.slot.json, k.marshal)
}

// appendJSON is json, appended.
func (r *request) appendJSON(dst []byte, item *store.Item) ([]byte, error) {
	if r.kind.Custom != nil {
		raw, err := r.customJSON(item)
		return append(dst, raw...), err
	}
	return item.AppendEncoded(dst, r.kind.slot.json, r.kind.marshal)
}

// marshal is the JSON of a stored object.
func (k *served) marshal(obj api.Object) ([]byte, error) {
	if k.FromStored != nil {
		obj = k.FromStored(obj)
	}
	return json.Marshal(obj)
}

// customJSON is json of a kind whose other versions may be a webhook away: that is asked
// before anybody waits for the item.
func (r *request) customJSON(item *store.Item) ([]byte, error) {
	if raw, ok := item.Kept(r.kind.slot.json); ok {
		return raw, nil
	}
	obj, err := r.view(item)
	if err != nil {
		return nil, err
	}
	return item.Encoded(r.kind.slot.json, func(api.Object) ([]byte, error) { return json.Marshal(obj) })
}

// jsonHeader is how the JSON of each object of the kind begins. Elements of typed lists
// are without it.
func (k *served) jsonHeader() []byte {
	version, kind := k.ToAPIVersionAndKind()
	return fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,`, kind, version)
}

// metaBytes is the item's metadata as PartialObjectMetadata.
func (r *request) metaBytes(item *store.Item) ([]byte, error) {
	if r.out.media == typeProtobuf || r.out.media == typeCBOR || r.out.version != "v1" || r.kind.Custom != nil {
		obj, err := r.view(item)
		if err != nil {
			return nil, err
		}
		return objectBytes(&choice{media: r.out.media}, partial(obj, r.out.version))
	}
	raw, err := item.Encoded(r.kind.slot.meta, func(obj api.Object) ([]byte, error) { return json.Marshal(partial(obj, "v1")) })
	if err == nil && r.out.media == typeYAML {
		return yaml.JSONToYAML(raw)
	}
	return raw, err
}

// partial is an object's metadata in a version of meta.k8s.io.
func partial(obj api.Object, version string) *metav1.PartialObjectMetadata {
	p := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/" + version}}
	if meta := metaOf(obj); meta != nil {
		p.ObjectMeta = *meta
	}
	return p
}

// objectBytes encodes an object that no item holds: an answer of an action, a status, a
// dry run.
func objectBytes(c *choice, obj runtime.Object) ([]byte, error) {
	switch c.media {
	case typeProtobuf:
		return encodeProtobuf(obj)
	case typeCBOR:
		return encodeCBOR(obj)
	}
	raw, err := json.Marshal(obj)
	if err == nil && c.media == typeYAML {
		return yaml.JSONToYAML(raw)
	}
	return raw, err
}

// protoMessage is what generated types can do.
type protoMessage interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
}

// encodeProtobuf wraps an object's message in the Kubernetes envelope.
func encodeProtobuf(obj runtime.Object) ([]byte, error) {
	m, ok := obj.(protoMessage)
	if !ok {
		return nil, fmt.Errorf("%T has no protobuf form", obj)
	}
	gvk := obj.GetObjectKind().GroupVersionKind()
	size := m.Size()
	out := appendEnvelope(nil, gvk, size)
	at := len(out)
	out = append(out, make([]byte, size)...)
	if _, err := m.MarshalToSizedBuffer(out[at:]); err != nil {
		return nil, fmt.Errorf("encode %s: %w", gvk.Kind, err)
	}
	return append(out, envelopeEnd...), nil
}

// The envelope: "k8s\x00", then runtime.Unknown{1: TypeMeta{1: apiVersion, 2: kind}, 2: raw,
// 3: contentEncoding, 4: contentType}.
var (
	envelopeStart = []byte("k8s\x00")
	envelopeEnd   = []byte{0x1a, 0, 0x22, 0}
)

func appendEnvelope(dst []byte, gvk schema.GroupVersionKind, size int) []byte {
	version, kind := gvk.ToAPIVersionAndKind()
	meta := appendText(appendText(nil, 1, version), 2, kind)
	dst = append(dst, envelopeStart...)
	dst = appendBytes(dst, 1, meta)
	return binary.AppendUvarint(append(dst, 2<<3|2), uint64(size))
}

func appendText(dst []byte, field byte, s string) []byte {
	return append(binary.AppendUvarint(append(dst, field<<3|2), uint64(len(s))), s...)
}

func appendBytes(dst []byte, field byte, b []byte) []byte {
	return append(binary.AppendUvarint(append(dst, field<<3|2), uint64(len(b))), b...)
}

// prettyJSON indents, when the client is a person.
func prettyJSON(raw []byte) []byte {
	var out bytes.Buffer
	if json.Indent(&out, raw, "", "  ") != nil {
		return raw
	}
	return out.Bytes()
}
