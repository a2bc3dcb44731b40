package apiserver

import (
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

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
	custom   bool // a custom resource
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
	return nil, o.notAcceptable(header)
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

// notAcceptable refuses to answer in none of the forms that a client takes. Which words are used
// depends on whether it named a type that is spoken at all.
func (o offer) notAcceptable(header string) error {
	const streams = typeJSON + ";stream=watch, " + typeProtobuf + ";stream=watch"
	spoken := []string{typeJSON, typeYAML, typeProtobuf}
	if o.cbor && !o.watch {
		spoken = append(spoken, typeCBOR)
	}
	known := o.custom || o.cbor
	for w := range accept.Wishes(header) {
		known = known || w.Media == "*/*" || slices.Contains(spoken, w.Media)
	}
	list := strings.Join(spoken, ", ")
	switch {
	case known && o.watch && o.cbor:
		list = streams + ", " + typeCBORSequence
	case known && o.watch:
		list = streams
	case !known && o.watch:
		list += ", " + streams
	}
	if known {
		return notAcceptable("only the following media types are accepted: " + list)
	}
	return apierrors.NewGenericServerResponse(http.StatusNotAcceptable, "", noResource, "", "406: Not Acceptable\n\nAvailable representations: "+list, 0, false)
}

func notAcceptable(text string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable, Message: text,
	}}
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
