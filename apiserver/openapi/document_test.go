package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
	explain "k8s.io/kubectl/pkg/explain/v2"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/authentication"
	"github.com/proa-dev/proa/apis/authorization"
	"github.com/proa-dev/proa/apis/events"
	"github.com/proa-dev/proa/apis/policy"
	"github.com/proa-dev/proa/apis/rbac"
	"github.com/proa-dev/proa/apiserver/catalog"
)

var backups = &api.Kind{
	GroupVersionKind: schema.GroupVersionKind{Group: "store.example.io", Version: "v1", Kind: "Backup"},
	Resource:         schema.GroupVersionResource{Group: "store.example.io", Version: "v1", Resource: "backups"},
	Singular:         "backup", Namespaced: true, HasStatus: true, Type: reflect.TypeFor[unstructured.Unstructured](),
	Schema: []byte(backupSchema),
}

const backupSchema = `{"description": "A copy of a volume.", "type": "object", "required": ["spec"], "properties": {
	"spec": {"type": "object", "properties": {
		"keep": {"type": "integer", "default": 3, "nullable": true},
		"source": {"oneOf": [{"required": ["volume"]}, {"required": ["claim"]}], "type": "object",
			"properties": {"volume": {"type": "string", "description": "Name of the volume."}, "claim": {"type": "string"}}},
		"any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}}}}}}`

// with is the custom resource with another schema.
func with(schema string) *api.Kind {
	k := *backups
	k.Schema = []byte(schema)
	return &k
}

func builtin() []*api.Kind {
	return slices.Concat(kinds(), authentication.Kinds, authorization.Kinds, events.Kinds, policy.Kinds, rbac.Kinds)
}

func allKinds() []*api.Kind { return append(builtin(), backups) }

var reference = regexp.MustCompile(`"\$ref":\s*"([^"]+)"`)

// TestWhole checks that what the documents refer to is in them, that operation ids are
// unique and that the parameters of a path are those that it names.
func TestWhole(t *testing.T) {
	ids := map[string]string{}
	for name, d := range newDocuments(catalog.New(allKinds()).State(), false, nil).v3 {
		raw := plain(t, d, false)
		doc := &spec3.OpenAPI{}
		if err := json.Unmarshal(raw, doc); err != nil {
			t.Fatal(err)
		}
		for _, m := range reference.FindAllSubmatch(raw, -1) {
			definition, ok := strings.CutPrefix(string(m[1]), "#/components/schemas/")
			if !ok || doc.Components.Schemas[definition] == nil {
				t.Errorf("%s refers to %s", name, m[1])
			}
		}
		for path, item := range doc.Paths.Paths {
			for _, op := range []*spec3.Operation{item.Get, item.Put, item.Post, item.Patch, item.Delete, item.Head, item.Options} {
				if op == nil {
					continue
				}
				if other := ids[op.OperationId]; other != "" {
					t.Errorf("%s and %s are both %s", path, other, op.OperationId)
				}
				ids[op.OperationId] = path
			}
			checkParameters(t, path, item)
		}
		message, err := openapiv3.ParseDocument(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if _, err := proto.Marshal(message); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func checkParameters(t *testing.T, path string, item *spec3.Path) {
	var declared []string
	for _, p := range item.Parameters {
		if p.In == "path" {
			declared = append(declared, "{"+p.Name+"}")
		}
	}
	named := regexp.MustCompile(`\{\w+\}`).FindAllString(path, -1)
	slices.Sort(named)
	slices.Sort(declared)
	if !slices.Equal(named, declared) {
		t.Errorf("%s has parameters %v", path, declared)
	}
}

func TestCustomResource(t *testing.T) {
	list := catalog.New(builtin())
	h := New(list)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	core := h.documents().v3["api/v1"]
	list.SetCustom([]*api.Kind{backups})
	if h.documents().v3["api/v1"] != core {
		t.Error("a custom resource changed the document of another group")
	}
	before := h.documents().v2.hash
	c := discovery.NewDiscoveryClientForConfigOrDie(&rest.Config{Host: s.URL})
	var out bytes.Buffer
	err := explain.PrintModelDescription([]string{"spec", "source"}, &out, c.OpenAPIV3(), backups.Resource, true, 0, "plaintext")
	if err != nil || !strings.Contains(out.String(), "volume\t<string>") {
		t.Errorf("explain: %v\n%s", err, out.String())
	}
	doc, err := c.OpenAPISchema()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(doc.Definitions.AdditionalProperties, func(d *openapiv2.NamedSchema) bool { return d.Name == "io.example.store.v1.Backup" }) {
		t.Error("version 2 lacks the custom resource")
	}
	list.SetCustom([]*api.Kind{with(`{"type": "object"}`)})
	if h.documents().v2.hash == before {
		t.Error("the hash does not tell of the changed schema")
	}
}

func TestVersion2OfCustom(t *testing.T) {
	m := newModels(false)
	m.kind(backups)
	root := m.definitions["io.example.store.v1.Backup"].Properties["spec"]
	keep, source, any := root.Properties["keep"], root.Properties["source"], root.Properties["any"]
	if keep.Default != nil || keep.Nullable || len(keep.Type) != 0 {
		t.Errorf("keep is %+v", keep)
	}
	if source.OneOf != nil || len(source.Properties) != 2 {
		t.Errorf("source is %+v", source)
	}
	if any.Properties != nil {
		t.Errorf("any has properties %v", any.Properties)
	}
	for _, bad := range []string{"", "null", "[]", `{"type": 3}`, `{"properties": {"x": {"$ref": "::"}}}`} {
		m := newModels(true)
		if s := m.definitions[m.kind(with(bad))]; !slices.Equal(s.Type, spec.StringOrArray{"object"}) {
			t.Errorf("%q gives %+v", bad, s)
		}
	}
}

// TestConcurrent asks while the kinds change; the race detector judges.
func TestConcurrent(t *testing.T) {
	list := catalog.New(builtin())
	h := New(list)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for _, path := range []string{"/openapi/v3", "/openapi/v3/apis/apps/v1", "/openapi/v3/apis/store.example.io/v1", "/openapi/v3/api/v1"} {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
				if w.Code != 200 && w.Code != 404 {
					t.Errorf("%s: %d", path, w.Code)
				}
				if i%2 == 0 {
					list.SetCustom([]*api.Kind{backups})
				} else {
					list.SetCustom(nil)
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkFirstRequest(b *testing.B) {
	for b.Loop() {
		w := httptest.NewRecorder()
		New(catalog.New(kinds())).ServeHTTP(w, httptest.NewRequest("GET", "/openapi/v3/api/v1", nil))
	}
}

func BenchmarkIndex(b *testing.B) {
	for b.Loop() {
		w := httptest.NewRecorder()
		New(catalog.New(kinds())).ServeHTTP(w, httptest.NewRequest("GET", "/openapi/v3", nil))
	}
}

// BenchmarkCustomChange is what the version 2 document costs after a custom resource changed.
func BenchmarkCustomChange(b *testing.B) {
	for _, media := range []string{mediaJSON, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"} {
		b.Run(media[len(media)-4:], func(b *testing.B) {
			list := catalog.New(builtin())
			h := New(list)
			get := func(schema string) {
				list.SetCustom([]*api.Kind{with(schema)})
				r := httptest.NewRequest("GET", "/openapi/v2", nil)
				r.Header.Set("Accept", media)
				r.Header.Set("Accept-Encoding", "gzip")
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
			get(`{}`)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				get(fmt.Sprintf(`{"type": "object", "description": "%d"}`, i))
			}
		})
	}
}
