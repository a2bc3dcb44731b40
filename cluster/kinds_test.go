package cluster

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	cbor "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/apiserver/discovery"
	"github.com/proa-dev/proa/apiserver/patch"
)

// entry is a resource or subresource as discovery tells of it.
type entry struct {
	Group, Version, Resource, Kind string
	Namespaced                     bool
	ShortNames, Categories, Verbs  []string
}

// apart are groups and resources (group/resource) that differ on purpose, with the reason.
var apart = map[string]string{"metrics.k8s.io": "answered here as long as no other server is installed for it"}

// testdata/discovery.json is the published discovery of Kubernetes 1.37 without what is
// off by default (alpha and beta versions).
func TestDiscoveryIsThatOfKubernetes(t *testing.T) {
	raw, err := os.ReadFile("testdata/discovery.json")
	if err != nil {
		t.Fatal(err)
	}
	var published []entry
	if err := json.Unmarshal(raw, &published); err != nil {
		t.Fatal(err)
	}
	ours := served(t)
	for _, want := range published {
		key := want.Group + "/" + want.Resource
		got, ok := ours[want.Group+"/"+want.Version+"/"+want.Resource]
		if apart[want.Group] != "" || apart[key] != "" {
			continue
		}
		if !ok {
			t.Errorf("%s %s is not served", key, want.Version)
			continue
		}
		if _, kind, other := strings.Cut(want.Kind, "/"); other {
			want.Kind = kind
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", key, got, want)
		}
		delete(ours, want.Group+"/"+want.Version+"/"+want.Resource)
	}
	for key := range ours {
		group, _, _ := strings.Cut(key, "/")
		if apart[group] == "" {
			t.Errorf("%s is served, but not by Kubernetes", key)
		}
	}
}

func served(t *testing.T) map[string]entry {
	h := discovery.New(catalog.New(Kinds()), "127.0.0.1:6443")
	found := map[string]entry{}
	for _, path := range []string{"/api", "/apis"} {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var list apidiscoveryv2.APIGroupDiscoveryList
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
			t.Fatal(err, w.Body)
		}
		for _, g := range list.Items {
			for _, v := range g.Versions {
				for _, r := range v.Resources {
					for _, e := range entries(g.Name, v.Version, &r) {
						found[e.Group+"/"+e.Version+"/"+e.Resource] = e
					}
				}
			}
		}
	}
	return found
}

func entries(group, version string, r *apidiscoveryv2.APIResourceDiscovery) []entry {
	e := entry{Group: group, Version: version, Resource: r.Resource, Namespaced: r.Scope == apidiscoveryv2.ScopeNamespace,
		ShortNames: r.ShortNames, Categories: r.Categories, Verbs: r.Verbs}
	var list []entry
	if r.ResponseKind != nil {
		e.Kind = r.ResponseKind.Kind
		list = append(list, e)
	}
	for _, s := range r.Subresources {
		sub := entry{Group: group, Version: version, Resource: r.Resource + "/" + s.Subresource, Namespaced: e.Namespaced, Verbs: s.Verbs}
		if s.ResponseKind != nil {
			sub.Kind = s.ResponseKind.Kind
		}
		list = append(list, sub)
	}
	return list
}

// What clients may send in any field must neither change on its way nor break the server.
func TestKindsTakeAnything(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	filler := newFiller(random)
	for _, k := range Kinds() {
		t.Run(k.Resource.String(), func(t *testing.T) {
			for round := range 20 {
				obj := k.New()
				if round > 0 {
					filler.Fill(obj)
				}
				obj.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
				if k.Virtual == nil {
					roundTrip(t, k, obj)
					exercise(k, obj, filler.Fill)
				}
			}
		})
	}
}

func roundTrip(t *testing.T, k *api.Kind, obj api.Object) {
	t.Helper()
	text, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	other, err := yaml.JSONToYAML(text)
	if err != nil {
		t.Fatal(err)
	}
	fromYAML := k.New()
	if err := yaml.Unmarshal(other, fromYAML); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(fromYAML)
	if err != nil || !reflect.DeepEqual(plain(t, text), plain(t, again)) {
		t.Errorf("YAML changed the object (%v):\n%s\n%s", err, text, again)
	}
	inCBOR, err := cbor.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	fromCBOR := k.New()
	if warnings, err := patch.DecodeKind(k, fromCBOR, "application/cbor", inCBOR, "Warn"); err != nil || len(warnings) > 0 {
		t.Errorf("CBOR is not read: %v, %q", err, warnings)
	} else if again, err := json.Marshal(fromCBOR); err != nil || !reflect.DeepEqual(plain(t, text), plain(t, again)) {
		t.Errorf("CBOR changed the object (%v):\n%s\n%s", err, text, again)
	}
	m, ok := obj.(interface {
		Marshal() ([]byte, error)
		Unmarshal([]byte) error
	})
	if !ok {
		t.Fatalf("%T has no protobuf form", obj)
	}
	wire, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back := k.New()
	if err := back.(interface{ Unmarshal([]byte) error }).Unmarshal(wire); err != nil {
		t.Fatal(err)
	}
	back.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	if !apiequality.Semantic.DeepEqual(obj, back) {
		t.Errorf("protobuf changed the object:\n%s", text)
	}
}

func plain(t *testing.T, text []byte) (value any) {
	t.Helper()
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// exercise calls all that is pure in a kind; a panic fails the test.
func exercise(k *api.Kind, obj api.Object, fill func(any)) {
	old := k.New()
	fill(old)
	before := old.DeepCopyObject()
	for _, o := range []api.Object{obj, obj.DeepCopyObject().(api.Object)} {
		k.Validate(o)
		k.ValidateCreate(o)
		k.Default(o)
		k.PrepareCreate(context.Background(), o)
		k.Validate(o)
		k.ValidateCreate(o)
		k.Warnings(o, nil)
		k.Warnings(o, old)
		k.ValidateUpdate(o, old)
		k.PrepareUpdate(context.Background(), o, old)
		k.PrepareStatus(o, old)
		k.ValidateStatus(o, old)
		for _, c := range k.Columns {
			c.Value(o)
		}
		for _, f := range k.Fields {
			f(o)
		}
		for _, u := range k.Updates {
			u.Validate(o, old)
			u.Apply(context.Background(), o, old)
		}
		if k.Scale != nil {
			k.Scale.Get(o)
		}
		if k.Stored != nil {
			k.FromStored(k.ToStored(o))
		}
	}
	if !apiequality.Semantic.DeepEqual(before, old) {
		panic("the old object of " + k.Kind + " was changed")
	}
}

type randomBits struct{ *rand.Rand }

func (s randomBits) Int63() int64 { return s.Int64() }
func (randomBits) Seed(int64)     {}

// Each kind needs its own place in etcd and a readable short name.
func TestKindsDoNotCollide(t *testing.T) {
	prefixes, names := map[string]string{}, map[string]string{}
	for _, k := range Kinds() {
		if k.Virtual != nil || k.Stored != nil {
			continue
		}
		if other, taken := prefixes[k.Prefix]; taken {
			t.Errorf("%s and %s are both stored under %s", k.Resource, other, k.Prefix)
		}
		prefixes[k.Prefix] = k.Resource.String()
		for _, n := range slices.Compact(slices.Concat(k.Short, []string{k.Resource.Resource, k.Singular})) {
			if other, taken := names[n]; taken && k.Resource.Group == "" {
				t.Errorf("%s and %s are both called %s", k.Resource, other, n)
			}
			names[n] = k.Resource.String()
		}
	}
}

// Every kind, from any JSON, by all that is pure in it.
func FuzzKinds(f *testing.F) {
	kinds := slices.DeleteFunc(Kinds(), func(k *api.Kind) bool { return k.Virtual != nil })
	filler := newFiller(rand.New(rand.NewPCG(7, 8)))
	for i, k := range kinds {
		obj := k.New()
		filler.Fill(obj)
		text, err := json.Marshal(obj)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), text, []byte(`{"spec":{},"status":null}`))
	}
	f.Fuzz(func(t *testing.T, kind uint8, text, old []byte) {
		k := kinds[int(kind)%len(kinds)]
		obj := k.New()
		if json.Unmarshal(text, obj) != nil {
			return
		}
		exercise(k, obj, func(o any) {
			if json.Unmarshal(old, o) != nil {
				reflect.ValueOf(o).Elem().SetZero()
			}
		})
	})
}
