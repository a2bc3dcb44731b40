package patch

import (
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/randfill"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/patch/ownership"
)

// oracleKinds are the kinds of all versions that client-go has a type and a schema for.
func oracleKinds(t testing.TB) []*Fields {
	var out []*Fields
	for gvk, typ := range scheme.Scheme.AllKnownTypes() {
		_, has := typ.FieldByName("ObjectMeta")
		if obj, ok := reflect.New(typ).Interface().(api.Object); !has || !ok || obj.GetObjectKind() == nil || gvk.Version == runtime.APIVersionInternal {
			continue
		}
		f := fieldsOf(t, &api.Kind{GroupVersionKind: gvk, Type: typ, HasStatus: true})
		if _, ok := f.types.(trusting); ok {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b *Fields) int { return strings.Compare(a.kind.String(), b.kind.String()) })
	return out
}

// chaos fills and edits objects at random, from few values so that keys collide.
type chaos struct {
	*rand.Rand
	names []string
	fill  *randfill.Filler
}

func newChaos(seed int64, names []string) *chaos {
	c := &chaos{Rand: rand.New(rand.NewSource(seed)), names: names}
	c.fill = randfill.New().RandSource(rand.NewSource(seed)).NilChance(.4).NumElements(0, 3).MaxDepth(14).Funcs(
		func(s *string, f randfill.Continue) { *s = names[f.Intn(len(names))] },
		func(n *int32, f randfill.Continue) { *n = int32(f.Intn(120)) - 10 },
		func(n *int64, f randfill.Continue) { *n = int64(f.Intn(120)) - 10 },
		func(q *resource.Quantity, f randfill.Continue) {
			*q = resource.MustParse([]string{"1", "1000m", "2Gi", "0"}[f.Intn(4)])
		},
		func(t *metav1.Time, f randfill.Continue) {
			*t = []metav1.Time{{}, metav1.Unix(1e9, 0), {Time: time.Unix(1e9, 5).UTC()}}[f.Intn(3)]
		},
		func(t *metav1.MicroTime, f randfill.Continue) {
			*t = metav1.NewMicroTime(time.Unix(int64(f.Intn(3)), 0))
		},
		func(r *runtime.RawExtension, f randfill.Continue) {
			r.Raw = [][]byte{nil, []byte(`{"a":1}`), []byte(`{"a": 1}`)}[f.Intn(3)]
		},
		func(v *intstr.IntOrString, f randfill.Continue) {
			*v = []intstr.IntOrString{intstr.FromInt32(int32(f.Intn(3))), intstr.FromString("1")}[f.Intn(2)]
		},
		func(m *metav1.ManagedFieldsEntry, f randfill.Continue) {},
		func(f *metav1.FieldsV1, c randfill.Continue) { f.SetRawString(`{"f:a":{}}`) },
	)
	return c
}

func (c *chaos) object(f *Fields) api.Object {
	obj := f.kind.New()
	c.fill.Fill(obj)
	c.rename(reflect.ValueOf(obj))
	obj.GetObjectKind().SetGroupVersionKind(f.kind.GroupVersionKind)
	obj.SetManagedFields(nil)
	obj.SetUID(types.UID("u"))
	return obj
}

// filled are types that are only ever replaced.
var filled = []reflect.Type{reflect.TypeFor[runtime.RawExtension](), reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime](),
	reflect.TypeFor[intstr.IntOrString](), reflect.TypeFor[resource.Quantity](), reflect.TypeFor[metav1.TypeMeta]()}

// edit changes something somewhere in v.
func (c *chaos) edit(v reflect.Value) {
	switch {
	case c.Intn(12) == 0 && v.CanSet():
		v.SetZero()
	case v.Kind() == reflect.Pointer && !v.IsNil() && c.Intn(4) > 0:
		c.edit(v.Elem())
	case v.Kind() == reflect.Struct && v.NumField() > 0 && !slices.Contains(filled, v.Type()) && c.Intn(8) > 0:
		if i := c.Intn(v.NumField()); v.Type().Field(i).IsExported() {
			c.edit(v.Field(i))
		}
	case v.Kind() == reflect.Slice && v.Len() > 0 && c.Intn(4) > 0:
		c.editList(v)
	case v.Kind() == reflect.Map && v.Len() > 0 && c.Intn(3) > 0:
		key := v.MapKeys()[0]
		val := reflect.New(v.Type().Elem()).Elem()
		if c.Intn(2) == 0 {
			val.Set(v.MapIndex(key))
			c.edit(val)
		} else {
			val = reflect.Value{}
		}
		v.SetMapIndex(key, val)
	case v.CanAddr() && v.Type() != reflect.TypeFor[metav1.TypeMeta]():
		c.fill.Fill(v.Addr().Interface())
		c.rename(v)
	}
}

// rename gives the texts of types of their own, which are filled at will, one of the names.
func (c *chaos) rename(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			c.rename(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			c.rename(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			c.rename(v.Index(i))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			key.Set(it.Key())
			val.Set(it.Value())
			v.SetMapIndex(it.Key(), reflect.Value{})
			c.rename(key)
			c.rename(val)
			v.SetMapIndex(key, val)
		}
	case reflect.String:
		if v.CanSet() && !slices.Contains(c.names, v.String()) {
			v.SetString(c.names[v.Len()%len(c.names)])
		}
	}
}

func (c *chaos) editList(v reflect.Value) {
	n := v.Len()
	i := c.Intn(n)
	switch c.Intn(6) {
	case 0:
		v.Set(reflect.AppendSlice(v.Slice3(0, i, i), v.Slice(i+1, n)))
	case 1:
		v.Set(reflect.Append(v.Slice3(0, n, n), v.Index(i)))
	case 2:
		reflect.Swapper(v.Interface())(i, 0)
	case 3:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	default:
		c.edit(v.Index(i))
	}
}

// entriesOf is what must be the same: entries with the bytes of their fields.
func entriesOf(obj api.Object) string {
	var out strings.Builder
	for _, e := range obj.GetManagedFields() {
		fmt.Fprintln(&out, e.Manager, e.Operation, e.APIVersion, e.Subresource, e.FieldsType, e.Time, e.FieldsV1.GetRawString())
	}
	return out.String()
}

func copyOf(obj api.Object) api.Object { return obj.DeepCopyObject().(api.Object) }

// history writes an object some times by several managers and compares each step with the
// library. It counts the steps and those the library was asked for. first, if not "", are
// fields that someone else is said to own.
func (c *chaos) history(t testing.TB, f *Fields, steps int, first string) (compared, asked int) {
	var live api.Object
	obj := c.object(f)
	if first != "" {
		obj.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "first", Operation: "Apply", APIVersion: f.version, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(first)}})
	}
	for step := range steps {
		manager, sub := []string{"a", "b", "c", ""}[c.Intn(4)], []string{"", "", "status"}[c.Intn(3)]
		if step == 0 {
			sub = ""
		}
		m, err := f.manager(sub)
		if err != nil {
			t.Fatal(err)
		}
		want, err := m.Update(f.whole(live), copyOf(obj), manager)
		if err != nil {
			return compared, asked // what the schema forbids
		}
		direct := copyOf(obj)
		w := ownership.Write{Live: live, Object: direct, Manager: manager, Subresource: sub, Ignored: f.kind.Unowned[sub], Reset: forgets(obj.GetManagedFields())}
		entries, ok := f.plan.Update(w)
		if compared++; !ok {
			asked++
		} else if direct.SetManagedFields(entries); entriesOf(direct) != entriesOf(want.(api.Object)) {
			t.Fatalf("%s, step %d by %q to %q:\ngot\n%swant\n%sbefore\n%s", f.kind.GroupVersionKind, step, manager, sub, entriesOf(direct), entriesOf(want.(api.Object)), entriesOf(f.whole(live)))
		}
		live = want.(api.Object)
		if e := live.GetManagedFields(); len(e) > 0 && c.Intn(6) == 0 {
			applied := &e[c.Intn(len(e))]
			applied.Operation, applied.Manager = metav1.ManagedFieldsOperationApply, fmt.Sprint("applier", step)
		}
		obj = copyOf(live)
		for range c.Intn(4) {
			c.edit(reflect.ValueOf(obj).Elem())
		}
		obj.GetObjectKind().SetGroupVersionKind(f.kind.GroupVersionKind)
		obj.SetUID("u")
		obj.SetManagedFields([][]metav1.ManagedFieldsEntry{live.GetManagedFields(), live.GetManagedFields(), nil}[c.Intn(3)])
		if c.Intn(20) == 0 {
			obj.SetManagedFields([]metav1.ManagedFieldsEntry{})
		}
		time.Sleep(time.Duration(c.Intn(2)) * time.Second)
	}
	return compared, asked
}

var common = []string{"", "a", "b", "name", "app.kubernetes.io/name", "A-1", "TCP"}

// TestAgreesWithLibrary compares histories of random objects of all kinds.
func TestAgreesWithLibrary(t *testing.T) {
	kinds := oracleKinds(t)
	if len(kinds) < 100 {
		t.Fatalf("only %d kinds", len(kinds))
	}
	synctest.Test(t, func(t *testing.T) {
		steps, asked := 0, 0
		for _, f := range kinds {
			if f.plan == nil {
				t.Errorf("%s has no plan", f.kind.GroupVersionKind)
				continue
			}
			for seed := range int64(8) {
				n, m := newChaos(seed, common).history(t, f, 6, "")
				steps, asked = steps+n, asked+m
			}
		}
		if t.Logf("%d kinds, %d steps, library asked for %d", len(kinds), steps, asked); steps < 4000 || asked > steps/100 {
			t.Error("too few steps compared")
		}
	})
}

// FuzzHistory adds unusual texts and entries.
func FuzzHistory(f *testing.F) {
	kinds := oracleKinds(f)
	for _, seed := range []string{"", "{}", `{"f:spec":{"f:nodeName":{}}}`, `{"f:metadata":{"f:labels":{".":{},"f:a":{}}}}`,
		`{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{}}}}}}`, `{"f:metadata":{"f:finalizers":{"v:\"x\"":{}}}}`} {
		f.Add(int64(1), uint8(0), seed, `a"<\`)
	}
	pod := slices.IndexFunc(kinds, func(f *Fields) bool { return f.kind.Type == reflect.TypeFor[corev1.Pod]() })
	f.Fuzz(func(t *testing.T, seed int64, kind uint8, first, name string) {
		if !utf8.ValidString(name) {
			return // the library does not read what it writes then
		}
		k := kinds[pod]
		if kind > 0 {
			k = kinds[int(kind)%len(kinds)]
		}
		synctest.Test(t, func(t *testing.T) { newChaos(seed, append(common, name)).history(t, k, 3, first) })
	})
}
