package openapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
)

const remoteDocument = `{"swagger": "2.0", "info": {"title": "", "version": ""}, "paths": {
	"/apis/metrics.example.io/v1/loads": {"get": {"responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/io.example.Load"}}}}},
	"/apis/other.example.io/v1/": {}},
	"definitions": {"io.example.Load": {"type": "object", "properties": {"metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}}},
		"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"description": "Another's."}, "io.example.Unused": {}}}`

func remote(group, document string, err error) catalog.Remote {
	return catalog.Remote{
		GroupVersion: schema.GroupVersion{Group: group, Version: "v1"},
		Describe:     func(context.Context) ([]byte, error) { return []byte(document), err },
	}
}

// TestJoin checks that both formats of the version 2 document say the same, that everything is in
// them once, and that other servers' parts are.
func TestJoin(t *testing.T) {
	list := catalog.New(allKinds())
	list.SetRemote([]catalog.Remote{
		remote("broken.example.io", `{"paths": []}`, nil), remote("gone.example.io", "", errors.New("gone")),
		remote("metrics.example.io", remoteDocument, nil),
	})
	d := newDocuments(list.State(), false, nil).v2
	asJSON, asProtobuf := plain(t, d, false), plain(t, d, true)
	var doc struct {
		Swagger             string
		Paths, Definitions  map[string]json.RawMessage
		SecurityDefinitions map[string]any
	}
	if err := json.Unmarshal(asJSON, &doc); err != nil {
		t.Fatal(err)
	}
	for _, m := range reference.FindAllSubmatch(asJSON, -1) {
		if name := string(m[1][len("#/definitions/"):]); doc.Definitions[name] == nil {
			t.Errorf("%s is referred to and not defined", name)
		}
	}
	if doc.Swagger != "2.0" || doc.SecurityDefinitions["BearerToken"] == nil || doc.Definitions["io.example.Load"] == nil ||
		doc.Definitions["io.example.Unused"] != nil || doc.Paths["/apis/other.example.io/v1/"] != nil ||
		bytes.Contains(asJSON, []byte("Another's.")) {
		t.Error("the document is not what it should be joined of")
	}
	message := &openapiv2.Document{}
	if err := proto.Unmarshal(asProtobuf, message); err != nil {
		t.Fatal(err)
	}
	var paths, definitions []string
	for _, p := range message.GetPaths().GetPath() {
		paths = append(paths, p.GetName())
	}
	for _, d := range message.GetDefinitions().GetAdditionalProperties() {
		definitions = append(definitions, d.GetName())
	}
	slices.Sort(paths)
	slices.Sort(definitions)
	if !slices.Equal(paths, slices.Sorted(maps.Keys(doc.Paths))) || !slices.Equal(definitions, slices.Sorted(maps.Keys(doc.Definitions))) {
		t.Errorf("protobuf has %d paths and %d definitions, JSON %d and %d", len(paths), len(definitions), len(doc.Paths), len(doc.Definitions))
	}
	if message.GetInfo().GetTitle() != "Kubernetes" || len(message.GetSecurity()) != 1 {
		t.Errorf("protobuf has info %v, security %v", message.GetInfo(), message.GetSecurity())
	}
}

// TestPartsStay checks that a change makes the part of one group version again and no other.
func TestPartsStay(t *testing.T) {
	list := catalog.New(allKinds())
	h := New(list)
	before := h.documents().parts
	other := *backups
	other.Group, other.Resource.Group = "other.example.io", "other.example.io"
	list.SetCustom([]*api.Kind{&other})
	after := h.documents().parts
	kept := 0
	for _, p := range after {
		if slices.Contains(before, p) {
			kept++
		}
	}
	if len(after) != len(before)+1 || kept != len(before)-1 { // the general part names the group versions
		t.Errorf("of %d parts %d were kept, now there are %d", len(before), kept, len(after))
	}
}

// plain is a document, uncompressed.
func plain(t *testing.T, d *document, protobuf bool) []byte {
	t.Helper()
	packed, err := d.encode(protobuf)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestNoKinds is a server that serves nothing.
func TestNoKinds(t *testing.T) {
	d := newDocument2("", func(protobuf bool) ([]byte, error) { return join(protobuf, nil, nil) })
	plain(t, d, true)
	if raw := plain(t, d, false); !json.Valid(raw) {
		t.Errorf("not JSON: %s", raw)
	}
}

// FuzzCut reads another server's document.
func FuzzCut(f *testing.F) {
	f.Add([]byte(remoteDocument))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := cut(raw, "/apis/metrics.example.io/v1")
		if err != nil {
			return
		}
		if _, err := e.protobuf(); err != nil {
			return
		}
		d := newDocument2("", func(protobuf bool) ([]byte, error) {
			return join(protobuf, []*part{newPart("", func() (entries, error) { return e, nil })}, nil)
		})
		if raw := plain(t, d, false); !json.Valid(raw) {
			t.Errorf("not JSON: %s", raw)
		}
	})
}
