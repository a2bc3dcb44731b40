package cluster

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store"
)

// newFiller fills objects with anything; a schema, which holds schemas, only so deep.
func newFiller(random *rand.Rand) *randfill.Filler {
	depth := 0
	schemas := func(serializer.CodecFactory) []any {
		return []any{
			func(s *apiextensionsv1.JSONSchemaProps, c randfill.Continue) {
				if depth++; depth <= 2 {
					c.FillNoCustom(s)
				} else {
					s.Type = "object"
				}
				depth--
			},
			func(j *apiextensionsv1.JSON, c randfill.Continue) {
				j.Raw = []byte([]string{`{"a":[1,"x",true]}`, `"text"`, `[1.5]`, `0`}[c.Intn(4)])
			},
			func(s *apiextensionsv1.JSONSchemaPropsOrBool, c randfill.Continue) {
				if s.Allows = c.Bool(); s.Allows { // a schema says yes by being there
					c.Fill(&s.Schema)
				}
			},
			func(s *apiextensionsv1.JSONSchemaPropsOrArray, c randfill.Continue) {
				s.Schema = &apiextensionsv1.JSONSchemaProps{} // lists of them are refused
				c.Fill(s.Schema)
			},
			func(s *apiextensionsv1.JSONSchemaPropsOrStringArray, c randfill.Continue) {
				s.Property = []string{"a", "b"}
			},
		}
	}
	funcs := fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, schemas)
	return fuzzer.FuzzerFor(funcs, randomBits{random}, serializer.NewCodecFactory(scheme.Scheme))
}

// openAll serves all kinds from a folder.
func openAll(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Kinds() {
		if k.Virtual == nil && k.Stored == nil {
			if _, err := s.Serve(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

func closeStore(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s *store.Store, k *api.Kind, obj api.Object) *store.Item {
	t.Helper()
	c, ok := s.Collection(k.GroupResource())
	if !ok {
		t.Fatalf("%s is not served", k.Kind)
	}
	item, err := c.Get(t.Context(), obj.GetNamespace(), obj.GetName(), store.Any)
	if err != nil {
		t.Fatalf("%s %s: %v", k.Kind, obj.GetName(), err)
	}
	return item
}

func overWire(t *testing.T, k *api.Kind, obj api.Object) api.Object {
	t.Helper()
	wire, err := obj.(interface{ Marshal() ([]byte, error) }).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back := k.New()
	if err := back.(interface{ Unmarshal([]byte) error }).Unmarshal(wire); err != nil {
		t.Fatal(err)
	}
	return back
}

// same compares an object with what an item shows in each of its forms.
func same(t *testing.T, k *api.Kind, want api.Object, item *store.Item) {
	t.Helper()
	want = want.DeepCopyObject().(api.Object)
	want.SetResourceVersion(fmt.Sprint(item.Revision))
	want.SetSelfLink("")
	want.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	wire, err := item.AppendMessage(nil)
	if err != nil {
		t.Fatalf("%s: %v", k.Kind, err)
	}
	back := k.New()
	if err := back.(interface{ Unmarshal([]byte) error }).Unmarshal(wire); err != nil {
		t.Fatal(err)
	}
	k.Default(back) // claim templates have a kind, which the wire does not
	for form, got := range map[string]api.Object{"object": item.Object(), "protobuf": back} {
		if got == nil || !apiequality.Semantic.DeepEqual(want, got) {
			a, b := text(t, want), text(t, got)
			at := 0
			for at < min(len(a), len(b)) && a[at] == b[at] {
				at++
			}
			at = max(0, at-100)
			t.Errorf("%s: the %s differs\nwant ...%.300s\n got ...%.300s", k.Kind, form, a[min(at, len(a)):], b[min(at, len(b)):])
		}
	}
}

func text(t *testing.T, obj api.Object) []byte {
	t.Helper()
	out, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What is stored is there after a restart, whole, in any form.
func TestStorageLosesNothing(t *testing.T) {
	filler := newFiller(rand.New(rand.NewPCG(5, 6)))
	dir := t.TempDir()
	s := openAll(t, dir)
	made := map[*api.Kind][]api.Object{}
	for _, k := range Kinds() {
		if k.Virtual != nil || k.Stored != nil || k.TTL != 0 {
			continue
		}
		c, _ := s.Collection(k.GroupResource())
		for round := range 6 {
			random := k.New()
			filler.Fill(random)
			obj := overWire(t, k, random) // to protobuf, lists that are empty are not there
			obj.SetName(fmt.Sprint("o", round))
			obj.SetNamespace("")
			if k.Namespaced {
				obj.SetNamespace("test")
			}
			k.Default(obj)
			want := obj.DeepCopyObject().(api.Object)
			item, err := c.Create(t.Context(), obj)
			if err != nil {
				t.Fatal(err)
			}
			same(t, k, want, item)
			made[k] = append(made[k], want)
		}
	}
	closeStore(t, s)
	s = openAll(t, dir)
	defer closeStore(t, s)
	for k, all := range made {
		for _, want := range all {
			same(t, k, want, get(t, s, k, want))
		}
	}
}

// examples are k8s.io/api's own files: each kind with every field set, as each release wrote it.
func examples(t *testing.T) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		t.Skipf("where k8s.io/api is: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "testdata")
	if _, err := os.Stat(dir); err != nil {
		t.Skip(err)
	}
	return dir
}

// Each file of a kind says the same in its three forms, and is stored and read back as it is.
func TestExamplesOfKubernetes(t *testing.T) {
	root := examples(t)
	s := openAll(t, t.TempDir())
	defer closeStore(t, s)
	releases, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, release := range releases {
		for _, k := range Kinds() {
			group := k.Group
			if group == "" {
				group = "core"
			}
			base := filepath.Join(root, release.Name(), fmt.Sprintf("%s.%s.%s", group, k.Version, k.Kind))
			if _, err := os.Stat(base + ".pb"); err != nil || k.Virtual != nil {
				continue
			}
			files++
			example(t, s, k, release.Name(), base)
		}
	}
	t.Logf("%d examples", files)
}

func example(t *testing.T, s *store.Store, k *api.Kind, release, base string) {
	t.Helper()
	fromPB := k.New()
	raw := file(t, base+".pb")
	var u runtime.Unknown
	if err := u.Unmarshal(raw[4:]); err != nil {
		t.Fatal(err)
	}
	if err := fromPB.(interface{ Unmarshal([]byte) error }).Unmarshal(u.Raw); err != nil {
		t.Fatalf("%s: %v", base, err)
	}
	fromPB.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	for _, form := range []string{".json", ".yaml"} {
		obj := k.New()
		if err := yaml.UnmarshalStrict(file(t, base+form), obj); err != nil {
			if release == "HEAD" { // fields of earlier releases may be gone
				t.Errorf("%s%s: %v", base, form, err)
			}
			continue
		}
		if !apiequality.Semantic.DeepEqual(fromPB, obj) {
			t.Errorf("%s: %s and protobuf differ\n%s\n%s", base, form, text(t, fromPB), text(t, obj))
		}
	}
	if k.Stored != nil {
		return // the stored version has a file of its own
	}
	stored := fromPB.DeepCopyObject().(api.Object)
	stored.SetName(strings.ToLower(release))
	stored.SetNamespace("")
	if k.Namespaced {
		stored.SetNamespace("test")
	}
	k.Default(stored)
	c, _ := s.Collection(k.GroupResource())
	want := stored.DeepCopyObject().(api.Object)
	item, err := c.Create(t.Context(), stored)
	if err != nil {
		t.Fatal(err)
	}
	same(t, k, want, item)
}

func file(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Versions that are called alike have the same fields under the same numbers.
func TestAlikeVersionsAreAlike(t *testing.T) {
	for _, k := range Kinds() {
		for _, version := range k.Alike {
			other, err := scheme.Scheme.New(k.GroupKind().WithVersion(version))
			if err != nil {
				t.Errorf("%s: %v", k.Kind, err)
				continue
			}
			if where := differs(reflect.TypeOf(other).Elem(), k.Type, k.Kind, map[reflect.Type]bool{}); where != "" && unalike[where] == "" {
				t.Errorf("%s of %s is not like that of %s", where, version, k.Version)
			}
		}
		if k.Written != "" && !strings.Contains(strings.Join(k.Alike, " "), k.Written) {
			t.Errorf("%s is written as %s, which is not one of %v", k.Kind, k.Written, k.Alike)
		}
	}
}

// unalike are fields that may differ, with the reason.
var unalike = map[string]string{
	"PodCertificateRequest.Spec.PKIXPublicKey":                         "gone in v1, where a request has it",
	"EndpointSlice.Endpoints.Topology":                                 "called deprecatedTopology in v1",
	"PriorityLevelConfiguration.Spec.Limited.AssuredConcurrencyShares": "called nominalConcurrencyShares in v1",
	"PriorityLevelConfiguration.Spec.Limited.NominalConcurrencyShares": "optional in v1, always set before",
}

// differs gives the first field of from that to does not have.
func differs(from, to reflect.Type, path string, seen map[reflect.Type]bool) string {
	for from.Kind() == to.Kind() && (from.Kind() == reflect.Pointer || from.Kind() == reflect.Slice || from.Kind() == reflect.Map) {
		from, to = from.Elem(), to.Elem()
	}
	if from.Kind() != to.Kind() {
		return path
	}
	if from == to || from.Kind() != reflect.Struct || seen[from] {
		return ""
	}
	seen[from] = true
	fields := map[string]reflect.StructField{}
	for i := range to.NumField() {
		fields[wireNumber(to.Field(i))] = to.Field(i)
	}
	for i := range from.NumField() {
		f := from.Field(i)
		n := wireNumber(f)
		if n == "" {
			continue
		}
		if g, ok := fields[n]; !ok || g.Name != f.Name {
			return path + "." + f.Name
		} else if where := differs(f.Type, g.Type, path+"."+f.Name, seen); where != "" {
			return where
		}
	}
	return ""
}

// wireNumber is a field's wire type and number.
func wireNumber(f reflect.StructField) string {
	if parts := strings.Split(f.Tag.Get("protobuf"), ","); len(parts) > 1 {
		return parts[0] + parts[1]
	}
	return ""
}
