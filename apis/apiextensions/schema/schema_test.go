package schema

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

func props(t testing.TB, text string) *Props {
	t.Helper()
	p := &Props{}
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(text, "\t", "  ")), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func compiled(t testing.TB, text string) *Schema {
	t.Helper()
	s, err := New(props(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func value(t testing.TB, text string) map[string]any {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(strings.ReplaceAll(text, "\t", "  ")))
	if err != nil {
		t.Fatal(err)
	}
	v, err := decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

const rich = `
type: object
properties:
	spec:
		type: object
		properties:
			count: {type: integer, minimum: 1, default: 3}
			name: {type: string, maxLength: 5}
			mode: {type: string, enum: [a, b]}
			port: {x-kubernetes-int-or-string: true}
			maybe: {type: string, nullable: true, default: x}
			tags: {type: array, x-kubernetes-list-type: set, items: {type: string}}
			ports:
				type: array
				x-kubernetes-list-type: map
				x-kubernetes-list-map-keys: [name]
				items:
					type: object
					required: [name]
					properties: {name: {type: string}, number: {type: integer, maximum: 9, default: 1}}
			labels: {type: object, additionalProperties: {type: string}}
			any: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {known: {type: object, properties: {a: {type: string}}}}}
			template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
			choice: {type: object, oneOf: [{required: [x]}, {required: [y]}], properties: {x: {type: string}, y: {type: string}}}
`

func TestPruneAndDefault(t *testing.T) {
	s := compiled(t, rich)
	obj := value(t, `
apiVersion: v1
kind: A
metadata: {name: x}
extra: 1
spec:
	name: null
	maybe: null
	bad: {}
	ports: [{name: a, more: 1}, {name: b, number: null}]
	any: {free: {a: 1}, known: {a: x, b: y}}
	labels: {a: b}
`)
	if got := strings.Join(s.Prune(obj), " "); got != "extra spec.any.known.b spec.bad spec.ports[0].more" {
		t.Errorf("pruned %s", got)
	}
	s.Default(obj)
	want := value(t, `
apiVersion: v1
kind: A
metadata: {name: x}
spec:
	count: 3
	maybe: null
	ports: [{name: a, number: 1}, {name: b, number: 1}]
	any: {free: {a: 1}, known: {a: x}}
	labels: {a: b}
`)
	if !reflect.DeepEqual(obj, want) {
		t.Errorf("got %v", obj)
	}
	if !s.Clean(obj) {
		t.Error("not clean")
	}
}

func TestMetadata(t *testing.T) {
	s := compiled(t, rich)
	obj := value(t, `{metadata: {name: x, odd: 1}, spec: {template: {apiVersion: v1, kind: Pod, metadata: {odd: 2, labels: {a: b}}}}}`)
	unknown, err := s.Metadata(obj)
	if err != nil || strings.Join(unknown, " ") != "metadata.odd spec.template.metadata.odd" {
		t.Errorf("%v, %v", unknown, err)
	}
	if _, err := s.Metadata(value(t, `{metadata: {labels: 7}}`)); err == nil || !strings.HasPrefix(err.Error(), "json: cannot unmarshal number") {
		t.Error(err)
	}
	errs := s.Validate(value(t, `{spec: {template: {kind: "-", metadata: {labels: {"a b": c}}}}}`), nil)
	for _, text := range []string{"spec.template.apiVersion: Required value", "spec.template.kind: Invalid value", "spec.template.metadata.labels: Invalid value"} {
		if !strings.Contains(errs.ToAggregate().Error(), text) {
			t.Errorf("%v lacks %s", errs, text)
		}
	}
}

func TestValidate(t *testing.T) {
	s := compiled(t, rich)
	for _, c := range []struct{ name, obj, old, want string }{
		{"fine", `{spec: {count: 1, port: 80, ports: [{name: a}], tags: [a, b], choice: {x: a}}}`, ``, ``},
		{"whole float", `{spec: {count: 2.0}}`, ``, ``},
		{"type", `{spec: {count: a}}`, ``, `spec.count: Invalid value: "string": spec.count in body must be of type integer: "string"`},
		{"null", `{spec: {count: null}}`, ``, `spec.count: Invalid value: "null": spec.count in body must be of type integer: "null"`},
		{"nullable", `{spec: {maybe: null}}`, ``, ``},
		{"minimum", `{spec: {count: 0}}`, ``, `spec.count: Invalid value: 0: spec.count in body should be greater than or equal to 1`},
		{"length", `{spec: {name: abcdef}}`, ``, `spec.name: Too long: may not be more than 5 bytes`},
		{"enum", `{spec: {mode: c}}`, ``, `spec.mode: Unsupported value: "c": supported values: "a", "b"`},
		{"int or string", `{spec: {port: true}}`, ``, `spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"`},
		{"set", `{spec: {tags: [a, b, a, a]}}`, ``, `spec.tags[2]: Duplicate value: "a"`},
		{"map", `{spec: {ports: [{name: a}, {name: a}]}}`, ``, `spec.ports[1]: Duplicate value: {"name":"a"}`},
		{"required", `{spec: {ports: [{}]}}`, ``, `spec.ports[0].name: Required value`},
		{"one of", `{spec: {choice: {x: a, y: b}}}`, ``, `<nil>: Invalid value: "": "spec.choice" must validate one and only one schema (oneOf). Found 2 valid alternatives`},
		{"one of none", `{spec: {choice: {}}}`, ``, `[<nil>: Invalid value: "": "spec.choice" must validate one and only one schema (oneOf). Found none valid, spec.choice.x: Required value]`},
		{"ratchet", `{spec: {count: 0, name: x}}`, `{spec: {count: 0}}`, ``},
		{"ratchet keyed", `{spec: {ports: [{name: b}, {name: a, number: 20}]}}`, `{spec: {ports: [{name: a, number: 20}]}}`, ``},
		{"changed keyed", `{spec: {ports: [{name: a, number: 21}]}}`, `{spec: {ports: [{name: a, number: 20}]}}`, `spec.ports[0].number: Invalid value: 21: spec.ports[0].number in body should be less than or equal to 9`},
		{"duplicates before", `{spec: {tags: [a, a, b]}}`, `{spec: {tags: [a, a]}}`, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			var old map[string]any
			if c.old != "" {
				old = value(t, c.old)
			}
			expect(t, s.Validate(value(t, c.obj), old), c.want)
		})
	}
}

func expect(t *testing.T, errs field.ErrorList, want string) {
	t.Helper()
	got := ""
	if err := errs.ToAggregate(); err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

const ruled = `
type: object
x-kubernetes-validations: [{rule: "self.metadata.name.startsWith('a')", message: "name must begin with a"}]
properties:
	spec:
		type: object
		x-kubernetes-validations:
		- {rule: "self.min <= self.max", messageExpression: "'min %d is above %d'.format([self.min, self.max])", fieldPath: ".min"}
		- {rule: "!has(oldSelf.max) || self.max >= oldSelf.max", message: "max cannot shrink", reason: FieldValueForbidden}
		- {rule: "oldSelf.hasValue() || self.min == 0", optionalOldSelf: true, message: "must begin at 0"}
		properties:
			min: {type: integer}
			max: {type: integer}
			names:
				type: array
				maxItems: 10
				items:
					type: string
					maxLength: 10
					x-kubernetes-validations: [{rule: "self != 'bad'"}]
`

func TestRules(t *testing.T) {
	s := compiled(t, ruled)
	expect(t, Check(props(t, ruled), field.NewPath("schema"), Options{}), "")
	for _, c := range []struct{ name, obj, old, want string }{
		{"fine", `{metadata: {name: a}, spec: {min: 0, max: 1}}`, ``, ``},
		{"name", `{metadata: {name: b}, spec: {min: 0, max: 1}}`, ``, `<nil>: Invalid value: name must begin with a`},
		{"expression", `{metadata: {name: a}, spec: {min: 0, max: -1}}`, ``, `spec.min: Invalid value: min 0 is above -1`},
		{"item", `{metadata: {name: a}, spec: {min: 0, max: 1, names: [x, bad]}}`, ``, `spec.names[1]: Invalid value: "bad": failed rule: self != 'bad'`},
		{"item before", `{metadata: {name: a}, spec: {min: 1, max: 1, names: [bad]}}`, `{metadata: {name: a}, spec: {min: 0, max: 1, names: [bad]}}`, ``},
		{"transition", `{metadata: {name: a}, spec: {min: 0, max: 1}}`, `{metadata: {name: a}, spec: {min: 0, max: 2}}`, `spec: Forbidden: max cannot shrink`},
		{"optional", `{metadata: {name: a}, spec: {min: 1, max: 1}}`, ``, `spec: Invalid value: must begin at 0`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var old map[string]any
			if c.old != "" {
				old = value(t, c.old)
			}
			expect(t, s.Rules(context.Background(), value(t, c.obj), old), c.want)
		})
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ name, schema, want string }{
		{"no type", `properties: {a: {type: string}}`, `schema.type: Required value: must not be empty at the root`},
		{"items", `{type: object, properties: {a: {type: array}}}`, `schema.properties[a].items: Required value: must be specified`},
		{"nested type", `{type: object, properties: {a: {type: string}}, anyOf: [{properties: {a: {type: string}}}]}`, `schema.anyOf[0].properties[a].type: Forbidden: must be empty to be structural`},
		{"incomplete", `{type: object, anyOf: [{properties: {a: {minLength: 1}}}]}`, `schema.properties[a]: Required value: because it is defined in schema.anyOf[0].properties[a]`},
		{"metadata", `{type: object, properties: {metadata: {type: object, properties: {labels: {type: object}}}}}`, `schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified`},
		{"default", `{type: object, properties: {a: {type: integer, default: x}}}`, `schema.properties[a].default: Invalid value: "string":  in body must be of type integer: "string"`},
		{"both", `{type: object, properties: {a: {type: object, properties: {b: {type: string}}, additionalProperties: {type: string}}}}`, `schema.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive`},
		{"keys", `{type: object, properties: {a: {type: array, x-kubernetes-list-type: map, items: {type: object}}}}`, `schema.properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map`},
		{"unique", `{type: object, properties: {a: {type: array, uniqueItems: true, items: {type: string}}}}`, `schema.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic`},
		{"int or string", `{type: object, properties: {a: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}}}`, ``},
		{"lost", `{type: object, properties: {a: {type: array, items: {type: string, x-kubernetes-validations: [{rule: "self == oldSelf"}]}, maxItems: 3}}}`,
			`schema.properties[a].items.x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema within schema.properties[a]`},
		{"path", `{type: object, properties: {a: {type: string}}, x-kubernetes-validations: [{rule: "true", fieldPath: ".b"}]}`, `schema.x-kubernetes-validations[0].fieldPath: Invalid value: ".b": must be a valid path`},
	} {
		t.Run(c.name, func(t *testing.T) {
			expect(t, Check(props(t, c.schema), field.NewPath("schema"), Options{}), c.want)
		})
	}
}

// random makes any value, of names that schemas use among others.
func random(r *rand.Rand, depth int) any {
	switch n := r.IntN(8); {
	case n == 0:
		return nil
	case n == 1:
		return int64(r.IntN(4))
	case n == 2:
		return "a"
	case n == 3 && depth > 0:
		list := []any{}
		for range r.IntN(3) {
			list = append(list, random(r, depth-1))
		}
		return list
	case depth > 0:
		m := map[string]any{}
		names := []string{"spec", "count", "name", "maybe", "ports", "number", "any", "known", "a", "labels", "template", "metadata", "kind", "tags", "odd"}
		for range r.IntN(6) {
			m[names[r.IntN(len(names))]] = random(r, depth-1)
		}
		return m
	}
	return true
}

// What was pruned and defaulted once is as it should be, and says so.
func TestIdempotent(t *testing.T) {
	s := compiled(t, rich)
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 1))
		obj := map[string]any{"spec": random(r, 5)}
		before := copyOf(obj)
		clean := s.Clean(obj)
		if !reflect.DeepEqual(obj, before) {
			t.Fatalf("seed %d: Clean changed the object", seed)
		}
		s.Prune(obj)
		s.Default(obj)
		if clean != reflect.DeepEqual(obj, before) {
			t.Fatalf("seed %d: clean %v, but %v became %v", seed, clean, before, obj)
		}
		once := copyOf(obj)
		s.Prune(obj)
		s.Default(obj)
		if !reflect.DeepEqual(obj, once) || !s.Clean(obj) {
			t.Fatalf("seed %d: %v became %v", seed, once, obj)
		}
		_ = s.Validate(obj, nil)
		_ = s.Validate(obj, map[string]any{"spec": random(r, 5)})
	}
}

func FuzzSchema(f *testing.F) {
	for _, text := range []string{rich, ruled, `{"type":"object","properties":{"a":{"type":"string","default":"x"}}}`} {
		raw, _ := yaml.YAMLToJSON([]byte(strings.ReplaceAll(text, "\t", "  ")))
		f.Add(string(raw), `{"spec":{"count":1,"names":["a"]}}`)
	}
	f.Fuzz(func(t *testing.T, schema, object string) {
		p := &Props{}
		if json.Unmarshal([]byte(schema), p) != nil {
			return
		}
		_ = Check(p, field.NewPath("schema"), Options{Status: true})
		s, err := New(p)
		if err != nil {
			return
		}
		v, err := decode([]byte(object))
		obj, ok := v.(map[string]any)
		if err != nil || !ok {
			return
		}
		_, _ = s.Metadata(obj)
		s.Prune(obj)
		s.Default(obj)
		if len(s.Validate(obj, nil)) == 0 {
			_ = s.Rules(context.Background(), obj, nil)
		}
	})
}

func FuzzRule(f *testing.F) {
	f.Add("self.a == 1", "'x'", ".a")
	f.Add("oldSelf.a < self.a && self.b.all(x, x > 1)", "string(self.a)", ".b")
	f.Fuzz(func(t *testing.T, rule, message, path string) {
		raw, _ := json.Marshal(map[string]any{
			"type": "object", "properties": map[string]any{"a": map[string]any{"type": "integer"}, "b": map[string]any{"type": "array", "items": map[string]any{"type": "integer"}, "maxItems": 5}},
			"x-kubernetes-validations": []any{map[string]any{"rule": rule, "messageExpression": message, "fieldPath": path}},
		})
		p := &Props{}
		if json.Unmarshal(raw, p) != nil || len(Check(p, field.NewPath("s"), Options{})) > 0 {
			return
		}
		s, err := New(p)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Rules(context.Background(), map[string]any{"a": int64(2), "b": []any{int64(1)}}, map[string]any{"a": int64(1)})
	})
}

func BenchmarkClean(b *testing.B) {
	s, obj := compiled(b, rich), value(b, `{apiVersion: v1, kind: A, metadata: {name: x}, spec: {count: 1, maybe: x, ports: [{name: a, number: 1}, {name: b, number: 1}], labels: {a: b}}}`)
	if !s.Clean(obj) {
		b.Fatal(fmt.Sprint(s.Prune(obj)))
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Clean(obj)
	}
}
