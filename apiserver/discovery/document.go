package discovery

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	serializerjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/proa-dev/proa/internal/accept"
)

// document is one answer in all its forms, each encoded on first need.
type document struct {
	objects map[string]runtime.Object // by aggregated version; "" is the old form
	mu      sync.Mutex
	encoded map[string]encoded
}

type encoded struct {
	body []byte
	etag string
}

func newDocument(old runtime.Object) *document {
	return &document{objects: map[string]runtime.Object{"": old}, encoded: map[string]encoded{}}
}

func newAggregatedDocument(old runtime.Object, groups []apidiscoveryv2.APIGroupDiscovery) *document {
	d := newDocument(old)
	v2 := &apidiscoveryv2.APIGroupDiscoveryList{
		TypeMeta: typeMeta("APIGroupDiscoveryList", apidiscoveryv2.SchemeGroupVersion.String()), Items: groups,
	}
	if v2.Items == nil {
		v2.Items = []apidiscoveryv2.APIGroupDiscovery{}
	}
	d.objects["v2"] = v2
	// The two versions have the same fields.
	return d
}

const (
	typeJSON     = runtime.ContentTypeJSON
	typeProtobuf = runtime.ContentTypeProtobuf
	typeYAML     = runtime.ContentTypeYAML
	typeCBOR     = runtime.ContentTypeCBOR
)

// choice is a media type and form that the client takes.
type choice struct{ media, version string } // version "": the old form, "v2": aggregated

// contentType is how the choice is named in the answer.
func (c choice) contentType() string {
	if c.version == "" {
		return c.media
	}
	return c.media + ";g=apidiscovery.k8s.io;v=" + c.version + ";as=APIGroupDiscoveryList"
}

// choose picks the first wish of an Accept header that the document exists in; spoken are the
// media types that there are.
func (d *document) choose(header string, spoken []string) (choice, bool) {
	if header == "" {
		return choice{media: typeJSON}, true
	}
	for w := range accept.Wishes(header) {
		media, params := w.Media, w.Params
		if media == "*/*" || media == "application/*" {
			media = typeJSON
		} else if !slices.Contains(spoken, media) {
			continue
		}
		c := choice{media: media}
		if params["as"] != "" {
			if params["as"] != "APIGroupDiscoveryList" || params["g"] != "apidiscovery.k8s.io" {
				continue
			}
			c.version = params["v"]
		}
		if d.objects[c.version] != nil {
			return c, true
		}
	}
	return choice{}, false
}

func (d *document) serve(w http.ResponseWriter, r *http.Request, spoken []string) {
	header := r.Header.Get("Accept")
	c, ok := d.choose(header, spoken)
	if !ok {
		writeStatus(w, notAcceptable(header, spoken))
		return
	}
	e, err := d.encode(c)
	if err != nil {
		writeStatus(w, apierrors.NewInternalError(err))
		return
	}
	w.Header().Set("Content-Type", c.contentType())
	if c.version != "" {
		w.Header().Set("Vary", "Accept")
		w.Header().Set("ETag", e.etag)
		w.Header().Set("Cache-Control", "public")
		if r.Header.Get("If-None-Match") == e.etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	} else {
		w.Header().Set("Cache-Control", "no-cache, private")
	}
	_, _ = w.Write(e.body) // a client that went away
}

func (d *document) encode(c choice) (encoded, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := c.contentType()
	if e, ok := d.encoded[key]; ok {
		return e, nil
	}
	var s runtime.Encoder = serializerjson.NewSerializerWithOptions(serializerjson.DefaultMetaFactory, scheme, scheme, serializerjson.SerializerOptions{})
	switch c.media {
	case typeYAML:
		s = serializerjson.NewSerializerWithOptions(serializerjson.DefaultMetaFactory, scheme, scheme, serializerjson.SerializerOptions{Yaml: true})
	case typeProtobuf:
		s = protobuf.NewSerializer(scheme, scheme)
	case typeCBOR:
		s = cbor.NewSerializer(scheme, scheme)
	}
	var body bytes.Buffer
	if err := s.Encode(d.objects[c.version], &body); err != nil {
		return encoded{}, fmt.Errorf("encode discovery: %w", err)
	}
	sum := sha256.Sum256(body.Bytes())
	e := encoded{body: body.Bytes(), etag: `"` + strings.ToUpper(hex.EncodeToString(sum[:])) + `"`}
	d.encoded[key] = e
	return e, nil
}

// notAcceptable refuses, in words that depend on whether the client named a type that is spoken.
func notAcceptable(header string, spoken []string) *apierrors.StatusError {
	list := strings.Join(spoken, ", ")
	for wish := range accept.Wishes(header) {
		if slices.Contains(spoken, wish.Media) || wish.Media == "*/*" {
			return &apierrors.StatusError{ErrStatus: metav1.Status{
				Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
				Message: "only the following media types are accepted: " + list,
			}}
		}
	}
	return apierrors.NewGenericServerResponse(http.StatusNotAcceptable, "", schema.GroupResource{}, "", "406: Not Acceptable\n\nAvailable representations: "+list, 0, false)
}

func writeStatus(w http.ResponseWriter, err *apierrors.StatusError) {
	status := err.ErrStatus
	status.TypeMeta = typeMeta("Status", "v1")
	body, _ := json.Marshal(status) // a Status always encodes
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(int(status.Code))
	_, _ = w.Write(body)
}
