package apis_test

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// mutator lists edits that make an object of a type a little other.
type mutator struct {
	edits []edit
	pods  bool // also what pod templates say of pods
}

type edit struct {
	path string
	to   any
}

const (
	deepest = 9 // levels below the object
	unset   = 2 // levels below a field that is not set
)

func (m *mutator) add(path string, values ...any) {
	for _, v := range values {
		m.edits = append(m.edits, edit{path, v})
	}
}

// leaves are types of which text is made.
var leaves = map[reflect.Type][]any{
	reflect.TypeFor[resource.Quantity]():         {"-1", "0", "1500m", "1", "1Gi", "2Gi"},
	reflect.TypeFor[intstr.IntOrString]():        {float64(-1), float64(0), float64(1), float64(70000), "x", "-1%", "50%", "101%", "A_b"},
	reflect.TypeFor[metav1.Time]():               {"2026-01-02T03:04:05Z", nil},
	reflect.TypeFor[metav1.MicroTime]():          {"2026-01-02T03:04:05.000000Z", nil},
	reflect.TypeFor[metav1.Duration]():           {"-1s", "0s", "1s", nil},
	reflect.TypeFor[runtime.RawExtension]():      {map[string]any{"a": "b"}, nil},
	reflect.TypeFor[time.Duration]():             {},
	reflect.TypeFor[metav1.FieldsV1]():           {},
	reflect.TypeFor[metav1.ManagedFieldsEntry](): {},
}

func (m *mutator) walk(path string, t reflect.Type, v any, level int) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if values, ok := leaves[t]; ok {
		m.add(path, values...)
		return
	}
	if level > deepest || strings.HasSuffix(strings.ToLower(path), "template.spec") && t == reflect.TypeFor[corev1.PodSpec]() && !m.pods {
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		m.fields(path, t, v, level)
	case reflect.Slice:
		m.list(path, t, v, level)
	case reflect.Map:
		m.add(path, nil, map[string]any{}, sample(t, unset))
		if key, bad := child(path, "bad key!"), sample(t.Elem(), unset); path != "" {
			m.add(key, bad)
		}
		if have, ok := v.(map[string]any); ok {
			for k, e := range have {
				m.walk(path+"["+k+"]", t.Elem(), e, level+1)
			}
		}
	case reflect.String:
		m.add(path, nil, "", "x", "Bad_Name!", "kubernetes.io/x", "10.0.0.300", strings.Repeat("a", 64), strings.Repeat("a.", 150)+"a")
	case reflect.Bool:
		m.add(path, nil, true, false)
	case reflect.Int32, reflect.Int64, reflect.Int, reflect.Uint8, reflect.Uint32:
		m.add(path, nil, float64(-1), float64(0), float64(1), float64(7), float64(101), float64(65536), float64(1<<31-1))
	}
}

func (m *mutator) fields(path string, t reflect.Type, v any, level int) {
	have, _ := v.(map[string]any)
	if path != "" && have != nil {
		m.add(path, nil, map[string]any{})
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || f.Type == reflect.TypeFor[metav1.TypeMeta]() {
			continue
		}
		if name == "" && (f.Anonymous || strings.Contains(options, "inline")) {
			m.fields(path, f.Type, v, level)
			continue
		}
		at := child(path, name)
		if at == "metadata" {
			continue
		}
		if e, set := have[name]; set {
			m.walk(at, f.Type, e, level+1)
			continue
		}
		m.absent(at, f.Type, level)
	}
}

// absent sets what is not set.
func (m *mutator) absent(path string, t reflect.Type, level int) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if _, leaf := leaves[t]; leaf || t.Kind() != reflect.Struct && t.Kind() != reflect.Slice && t.Kind() != reflect.Map {
		m.walk(path, t, nil, level)
		return
	}
	m.add(path, sample(t, 0))
	for depth := 1; depth <= unset; depth++ {
		s := sample(t, depth)
		m.add(path, s)
		if depth == unset && t.Kind() == reflect.Struct {
			for k, v := range s.(map[string]any) {
				m.add(path, map[string]any{k: v})
			}
		}
		if list, ok := s.([]any); ok {
			m.add(path, []any{list[0], list[0]})
		}
	}
}

func (m *mutator) list(path string, t reflect.Type, v any, level int) {
	have, _ := v.([]any)
	m.add(path, nil, []any{}, []any{sample(t.Elem(), unset)})
	if len(have) == 0 {
		return
	}
	m.add(fmt.Sprintf("%s[%d]", path, len(have)), copied(have[len(have)-1]), sample(t.Elem(), 0), sample(t.Elem(), unset))
	if t.Elem().Kind() == reflect.Uint8 {
		return
	}
	for i, e := range have {
		m.walk(fmt.Sprintf("%s[%d]", path, i), t.Elem(), e, level+1)
	}
}

// sample makes a value of a type, filled in to a depth.
func sample(t reflect.Type, depth int) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if values, ok := leaves[t]; ok {
		if len(values) == 0 {
			return nil
		}
		return values[len(values)/2]
	}
	switch t.Kind() {
	case reflect.Struct:
		out := map[string]any{}
		if depth > 0 {
			sampleFields(t, depth, out)
		}
		return out
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "eA=="
		}
		return []any{sample(t.Elem(), depth-1)}
	case reflect.Map:
		return map[string]any{"x": sample(t.Elem(), depth-1)}
	case reflect.String:
		return "x"
	case reflect.Bool:
		return true
	case reflect.Int32, reflect.Int64, reflect.Int, reflect.Uint8, reflect.Uint32, reflect.Float64:
		return float64(1)
	}
	return nil
}

func sampleFields(t reflect.Type, depth int, out map[string]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || f.Type == reflect.TypeFor[metav1.ObjectMeta]() || f.Type == reflect.TypeFor[metav1.TypeMeta]():
		case name == "" && f.Anonymous:
			sampleFields(f.Type, depth, out)
		default:
			if v := sample(f.Type, depth-1); v != nil {
				out[name] = v
			}
		}
	}
}
