package apiserver

import (
	"cmp"
	"iter"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Media types that are spoken.
const (
	typeJSON     = "application/json"
	typeYAML     = "application/yaml"
	typeProtobuf = "application/vnd.kubernetes.protobuf"
	typeCBOR     = "application/cbor"
	// typeCBORSequence is what a watch in CBOR is: one item after the other.
	typeCBORSequence = "application/cbor-seq"
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

// wish is one entry of an Accept header.
type wish struct {
	media  string
	params map[string]string
	weight float64
}

// written are the wishes as they stand in the header.
func written(accept string) iter.Seq[wish] {
	return func(yield func(wish) bool) {
		for entry := range strings.SplitSeq(accept, ",") {
			media, params, err := mime.ParseMediaType(strings.TrimSpace(entry))
			if err != nil {
				continue
			}
			w := wish{media, params, 1}
			if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
				w.weight = q
			}
			if !yield(w) {
				return
			}
		}
	}
}

// wishes are in the client's order: by weight, and what names no type last.
func wishes(accept string) iter.Seq[wish] {
	if !strings.Contains(accept, "*") && !strings.Contains(accept, "q=") {
		return written(accept)
	}
	return slices.Values(slices.SortedStableFunc(written(accept), func(a, b wish) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(strings.Count(a.media, "*"), strings.Count(b.media, "*")))
	}))
}

// choose picks the first of the client's wishes that can be met.
func (o offer) choose(accept string) (*choice, error) {
	if accept == "" {
		return &choice{media: typeJSON}, nil
	}
	for w := range wishes(accept) {
		if c := o.meet(w); c != nil {
			return c, nil
		}
	}
	return nil, o.notAcceptable()
}

// meet is how a wish is met, nil if it cannot be.
func (o offer) meet(w wish) *choice {
	c := &choice{media: w.media, pretty: w.params["pretty"] == "1"}
	switch w.media {
	case "*/*", "application/*":
		c.media = typeJSON
	case typeJSON, typeProtobuf:
	case typeYAML:
		if o.watch {
			return nil
		}
	case typeCBOR, typeCBORSequence:
		if !o.cbor || w.media == typeCBORSequence && !o.watch {
			return nil
		}
		c.media = typeCBOR
	default:
		return nil
	}
	if stream := w.params["stream"]; stream != "" && stream != "watch" {
		return nil
	}
	if !c.transform(w.params) || c.media == typeProtobuf && c.as == "" && !o.protobuf {
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
