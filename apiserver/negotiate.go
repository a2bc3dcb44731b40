package apiserver

import (
	"mime"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Media types that are spoken.
const (
	typeJSON     = "application/json"
	typeYAML     = "application/yaml"
	typeProtobuf = "application/vnd.kubernetes.protobuf"
)

// choice is how a client wants its answer.
type choice struct {
	media string // one of the above
	as    string // "", Table, PartialObjectMetadata or PartialObjectMetadataList
	// version of the Table or PartialObjectMetadata: v1 or v1beta1
	version string
	pretty  bool
}

// negotiate picks the first of the client's wishes that can be met.
// protobuf is whether the kind has that form; metadata alone always has.
func negotiate(accept string, watch, protobuf bool) (*choice, error) {
	if accept == "" {
		return &choice{media: typeJSON}, nil
	}
	for entry := range strings.SplitSeq(accept, ",") {
		media, params, err := mime.ParseMediaType(strings.TrimSpace(entry))
		if err != nil {
			continue
		}
		c := &choice{media: media}
		switch media {
		case "*/*", "application/*":
			c.media = typeJSON
		case typeJSON, typeProtobuf:
		case typeYAML:
			if watch {
				continue
			}
		default:
			continue
		}
		if stream := params["stream"]; stream != "" && stream != "watch" {
			continue
		}
		if as := params["as"]; as != "" {
			version := params["v"]
			if params["g"] != "meta.k8s.io" || version != "v1" && version != "v1beta1" {
				continue
			}
			switch as {
			case "Table":
				if c.media == typeProtobuf {
					continue // a table has no protobuf form
				}
			case "PartialObjectMetadata", "PartialObjectMetadataList":
			default:
				continue
			}
			c.as, c.version = as, version
		}
		if c.media == typeProtobuf && c.as == "" && !protobuf {
			continue
		}
		c.pretty = params["pretty"] == "1"
		return c, nil
	}
	return nil, notAcceptable()
}

// notAcceptable refuses to answer in none of the forms that a client takes.
func notAcceptable() error {
	return apierrors.NewGenericServerResponse(http.StatusNotAcceptable, "", schema.GroupResource{}, "",
		"only the following media types are accepted: "+strings.Join([]string{typeJSON, typeYAML, typeProtobuf}, ", "), 0, false)
}

// contentType names the choice in the answer.
func (c *choice) contentType(watch bool) string {
	if watch {
		return c.media + map[bool]string{true: ";stream=watch"}[c.media == typeProtobuf]
	}
	return c.media
}
