package apiserver

import (
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/internal/accept"
)

// Media types that are spoken.
const (
	typeJSON     = runtime.ContentTypeJSON
	typeYAML     = runtime.ContentTypeYAML
	typeProtobuf = runtime.ContentTypeProtobuf
	typeCBOR     = runtime.ContentTypeCBOR
	// typeCBORSequence is what a watch in CBOR is: one item after the other.
	typeCBORSequence = runtime.ContentTypeCBORSequence
)

// choice is how a client wants its answer.
type choice struct {
	media string // one of the above, but for the sequence
	as    string // "", Table, PartialObjectMetadata or PartialObjectMetadataList
	// version of the Table or PartialObjectMetadata: v1 or v1beta1
	version string
	pretty  bool
}

// offer is what an answer can be.
type offer struct {
	watch    bool
	protobuf bool // the kind has that form; metadata alone always has
	cbor     bool // it is spoken
}

// choose picks the first of the client's wishes that can be met.
func (o offer) choose(header string) (*choice, error) {
	if header == "" {
		return &choice{media: typeJSON}, nil
	}
	for w := range accept.Wishes(header) {
		if c := o.meet(w); c != nil {
			return c, nil
		}
	}
	return nil, o.notAcceptable()
}

// meet is how a wish is met, nil if it cannot be.
func (o offer) meet(w accept.Wish) *choice {
	c := &choice{media: w.Media, pretty: w.Params["pretty"] == "1"}
	switch w.Media {
	case "*/*", "application/*":
		c.media = typeJSON
	case typeJSON, typeProtobuf:
	case typeYAML:
		if o.watch {
			return nil
		}
	case typeCBOR, typeCBORSequence:
		if !o.cbor || w.Media == typeCBORSequence && !o.watch {
			return nil
		}
		c.media = typeCBOR
	default:
		return nil
	}
	if stream := w.Params["stream"]; stream != "" && stream != "watch" {
		return nil
	}
	if !c.transform(w.Params) || c.media == typeProtobuf && c.as == "" && !o.protobuf {
		return nil
	}
	return c
}

// transform reads what the client wants instead of the object; false: that there is not.
func (c *choice) transform(params map[string]string) bool {
	as, version := params["as"], params["v"]
	if as == "" {
		return true
	}
	if params["g"] != "meta.k8s.io" || version != "v1" && version != "v1beta1" {
		return false
	}
	switch as {
	case "Table":
		if c.media == typeProtobuf {
			return false // a table has no protobuf form
		}
	case "PartialObjectMetadata", "PartialObjectMetadataList":
	default:
		return false
	}
	c.as, c.version = as, version
	return true
}

// notAcceptable refuses to answer in none of the forms that a client takes.
func (o offer) notAcceptable() error {
	spoken := []string{typeJSON, typeYAML, typeProtobuf}
	switch {
	case o.cbor && o.watch:
		spoken = append(spoken, typeCBORSequence)
	case o.cbor:
		spoken = append(spoken, typeCBOR)
	}
	return apierrors.NewGenericServerResponse(http.StatusNotAcceptable, "", schema.GroupResource{}, "",
		"only the following media types are accepted: "+strings.Join(spoken, ", "), 0, false)
}

// contentType names the choice in the answer.
func (c *choice) contentType(watch bool) string {
	switch {
	case watch && c.media == typeProtobuf:
		return typeProtobuf + ";stream=watch"
	case watch && c.media == typeCBOR:
		return typeCBORSequence
	}
	return c.media
}
