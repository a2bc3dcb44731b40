package patch

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// fails checks an error's code and that its text holds what is expected.
func fails(t *testing.T, err error, code int32, text string) {
	t.Helper()
	status, ok := err.(apierrors.APIStatus)
	if !ok {
		t.Fatalf("got %T %v, want a status of %d", err, err, code)
	}
	got := status.Status()
	message := got.Message
	if got.Details != nil {
		for _, cause := range got.Details.Causes {
			message += "; " + cause.Message
		}
	}
	if got.Code != code || !strings.Contains(message, text) {
		t.Errorf("got %d %q, want %d %q", got.Code, message, code, text)
	}
}

// TestDecodeDeleteOptions: typed clients say the group version that they delete from.
func TestDecodeDeleteOptions(t *testing.T) {
	var o metav1.DeleteOptions
	_, err := Decode(schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}, &o, "application/json",
		[]byte(`{"kind":"DeleteOptions","apiVersion":"apps/v1","propagationPolicy":"Foreground"}`), "")
	if err != nil || *o.PropagationPolicy != metav1.DeletePropagationForeground {
		t.Errorf("got %v, %v", o, err)
	}
}

func TestDecode(t *testing.T) {
	envelope := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}}
	envelope.Raw, _ = (&corev1.ConfigMap{Data: map[string]string{"a": "b"}}).Marshal()
	wire, _ := envelope.Marshal()
	for _, c := range []struct {
		name, contentType, body, validation string
		code                                int32
		text, warning                       string
	}{
		{name: "json", body: `{"data":{"a":"b"}}`},
		{name: "json with kind", contentType: "application/json; charset=utf-8", body: `{"kind":"ConfigMap","apiVersion":"v1","data":{"a":"b"}}`},
		{name: "yaml", contentType: "application/yaml", body: "kind: ConfigMap\ndata: {a: b}\n"},
		{name: "json as yaml", contentType: "application/yaml", body: `{data: {a: b}}`},
		{name: "protobuf", contentType: mediaProtobuf, body: string(protobufMagic) + string(wire)},
		{name: "wrong version", body: `{"kind":"ConfigMap","apiVersion":"apps/v1"}`, code: 400, text: `no kind "ConfigMap" is registered for version "apps/v1"`},
		{name: "wrong kind", body: `{"kind":"Pod","apiVersion":"v1"}`, code: 400, text: `Pod in version "v1" cannot be handled as a ConfigMap: `},
		{name: "wrong type", body: `{"data":7}`, code: 400, text: "the object provided is unrecognized (must be of type ConfigMap): "},
		{name: "wrong type of a kind", body: `{"kind":"ConfigMap","apiVersion":"v1","data":7}`, code: 400, text: `ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal`},
		{name: "unknown, strict", body: `{"data":{"a":"b"},"x":1,"x":2}`, validation: "Strict", code: 400, text: `strict decoding error: unknown field "x"`},
		{name: "unknown, warn", body: `{"data":{"a":"b"},"x":1}`, validation: "Warn", warning: `unknown field "x"`},
		{name: "duplicate, warn", body: `{"data":{"a":"c"},"data":{"a":"b"}}`, validation: "Warn", warning: `duplicate field "data"`},
		{name: "unknown, ignore", body: `{"data":{"a":"b"},"x":1}`, validation: "Ignore"},
		{name: "empty", body: "", code: 400, text: "(<empty>)"},
		{name: "empty protobuf", contentType: mediaProtobuf, body: "", code: 400, text: "empty data"},
		{name: "other", contentType: "text/html", body: "<p>", code: 415},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got corev1.ConfigMap
			warnings, err := Decode(mapKind.GroupVersionKind, &got, c.contentType, []byte(c.body), c.validation)
			if c.code != 0 {
				fails(t, err, c.code, c.text)
				return
			}
			if err != nil || got.Data["a"] != "b" || got.Kind != "ConfigMap" || got.APIVersion != "v1" {
				t.Errorf("got %v, %v", got, err)
			}
			if strings.Join(warnings, "|") != c.warning {
				t.Errorf("warnings %q, want %q", warnings, c.warning)
			}
		})
	}
	_, err := Decode(mapKind.GroupVersionKind, &unstructured.Unstructured{}, "", []byte(`{"a":1}`), "")
	fails(t, err, 400, `Object 'Kind' is missing in '{"a":1}'`)
}

// bomb is a patch that doubles the metadata with every operation.
func bomb() string {
	var operations []string
	for i := range 40 {
		operations = append(operations, fmt.Sprintf(`{"op":"copy","from":"/metadata","path":"/metadata/x%d"}`, i))
	}
	return "[" + strings.Join(operations, ",") + "]"
}

func TestPatches(t *testing.T) {
	type patcher func(*api.Kind, api.Object, []byte, string) (api.Object, []string, error)
	for _, c := range []struct {
		name             string
		do               patcher
		body, validation string
		code             int32
		text             string
		check            func(*corev1.Pod) bool
	}{
		{name: "json", do: JSON, body: `[{"op":"replace","path":"/spec/nodeName","value":"n"}]`, check: func(p *corev1.Pod) bool { return p.Spec.NodeName == "n" }},
		{name: "json add", do: JSON, body: `[{"op":"add","path":"/spec/nodeName","value":"n"}]`, check: func(p *corev1.Pod) bool { return p.Spec.NodeName == "n" }},
		{name: "json test", do: JSON, body: `[{"op":"test","path":"/kind","value":"n"}]`, code: 422, text: "testing value /kind failed: test failed"},
		{name: "json is none", do: JSON, body: `{}`, code: 400, text: "error decoding patch: "},
		{name: "json too many", do: JSON, body: "[" + strings.Repeat(`{"op":"test"},`, 10000) + `{"op":"test"}]`, code: 413, text: "The allowed maximum operations in a JSON patch is 10000, got 10001"},
		{name: "json bomb", do: JSON, body: bomb(), code: 422, text: "copy"},
		{name: "merge", do: Merge, body: `{"metadata":{"labels":{"app":null}}}`, check: func(p *corev1.Pod) bool { return p.Labels["app"] == "" && p.Labels["tier"] == "front" }},
		{name: "merge unknown", do: Merge, body: `{"spec":{"foo":1}}`, validation: "Strict", code: 422, text: `strict decoding error: unknown field "spec.foo"`},
		{name: "merge kind", do: Merge, body: `{"kind":"Node"}`, code: 422},
		{name: "merge type", do: Merge, body: `{"spec":[]}`, code: 422, text: `patch: Invalid value: `},
		{name: "strategic", do: Strategic, body: `{"spec":{"containers":[{"name":"c1","image":"new"}]}}`, check: func(p *corev1.Pod) bool {
			return len(p.Spec.Containers) == 2 && p.Spec.Containers[1].Image == "new"
		}},
		{name: "strategic delete", do: Strategic, body: `{"spec":{"containers":[{"name":"c0","$patch":"delete"}]}}`, check: func(p *corev1.Pod) bool { return len(p.Spec.Containers) == 1 && p.Spec.Containers[0].Name == "c1" }},
		{name: "strategic order", do: Strategic, body: `{"spec":{"$setElementOrder/containers":[{"name":"c1"},{"name":"c0"}]}}`, check: func(p *corev1.Pod) bool { return p.Spec.Containers[0].Name == "c1" }},
		{name: "strategic unknown", do: Strategic, body: `{"spec":{"foo":1}}`, validation: "Strict", code: 422, text: `strict decoding error: unknown field "spec.foo"`},
		{name: "strategic is none", do: Strategic, body: `[]`, code: 400},
		{name: "strategic retain keys", do: Strategic, body: `{"spec":{"$retainKeys":7}}`, code: 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			live := aPod()
			obj, _, err := c.do(podKind, live, []byte(c.body), c.validation)
			if c.code != 0 {
				fails(t, err, c.code, c.text)
			} else if err != nil || !c.check(obj.(*corev1.Pod)) {
				t.Errorf("got %v, %v", obj, err)
			}
			if len(live.Spec.Containers) != 2 || live.Labels["app"] != "web" {
				t.Error("the live object was changed")
			}
		})
	}
	_, warnings, err := Strategic(podKind, aPod(), []byte(`{"spec":{"foo":1}}`), metav1.FieldValidationWarn)
	if err != nil || len(warnings) != 1 || warnings[0] != `unknown field "spec.foo"` {
		t.Errorf("got %q, %v", warnings, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("application/yaml", []byte("a: &a [b]\nc: [*a, *a]"))
	f.Add("application/json", []byte(`{"spec":{"containers":[{}]}}`))
	f.Add(mediaProtobuf, append(protobufMagic, 10, 0))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		_, err := Decode(podKind.GroupVersionKind, &corev1.Pod{}, contentType, body, "Warn")
		if _, ok := err.(apierrors.APIStatus); err != nil && !ok {
			t.Errorf("not a status: %v", err)
		}
	})
}

func fuzzPatch(f *testing.F, do func(*api.Kind, api.Object, []byte, string) (api.Object, []string, error), seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _, err := do(podKind, aPod(), body, "Warn")
		if _, ok := err.(apierrors.APIStatus); err != nil && !ok {
			t.Errorf("not a status: %v", err)
		}
	})
}

func FuzzJSON(f *testing.F) {
	fuzzPatch(f, JSON, `[{"op":"move","from":"/spec","path":"/spec/containers/-"}]`, `[{"op":"remove","path":""}]`, `[null]`)
}

func FuzzMerge(f *testing.F) { fuzzPatch(f, Merge, `{"spec":{"a":null}}`, `null`, `[]`) }

func FuzzStrategic(f *testing.F) {
	fuzzPatch(f, Strategic, `{"spec":{"containers":[{"name":"c0","$patch":"replace"}]}}`, `{"$patch":"delete"}`,
		`{"spec":{"$setElementOrder/containers":[1]}}`, `{"spec":{"$deleteFromPrimitiveList/a":[1],"$retainKeys":["a"]}}`)
}

func FuzzApply(f *testing.F) {
	fields := fieldsOf(f, podKind)
	f.Add([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a}]}"))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"managedFields":[{}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := fields.Apply(aPod(), body, "m", "", false)
		if _, ok := err.(apierrors.APIStatus); err != nil && !ok {
			t.Errorf("not a status: %v", err)
		}
	})
}

// TestEntriesAside checks that patches leave managedFields alone unless they are about them.
func TestEntriesAside(t *testing.T) {
	live, err := fieldsOf(t, podKind).Written(nil, aPod(), "kubectl", "")
	if err != nil {
		t.Fatal(err)
	}
	*live.GetManagedFields()[0].Time = metav1.Unix(1e9, 0) // as it comes from the store
	before := live.DeepCopyObject()
	for _, c := range []struct {
		apply   func(*api.Kind, api.Object, []byte, string) (api.Object, []string, error)
		body    string
		entries int // of what comes out; -1: those of live
	}{
		{JSON, `[{"op":"add","path":"/metadata/labels/a","value":"b"}]`, -1},
		{JSON, `[{"op":"replace","path":"/metadata/managedFields","value":[{}]}]`, 1},
		{JSON, `[{"op":"remove","path":"/metadata/managedFields/0"}]`, 0},
		{JSON, `[{"op":"remove","path":"\u002fmetadata/managed\u0046ields/0"}]`, 0},
		{JSON, `[{"op":"copy","from":"/metadata","path":"/metadata"}]`, -1},
		{JSON, `[{"op":"test","path":"/metadata/managedFields/0/manager","value":"kubectl"}]`, -1},
		{Merge, `{"status":{"phase":"Running"}}`, -1},
		{Merge, `{"metadata":{"managedFields":[{}]}}`, 1},
		{Merge, `{"metadata":{"managedFields":null}}`, 0},
		{Strategic, `{"status":{"phase":"Running","message":"a \"b\" <c>"}}`, -1},
		{Strategic, `{"metadata":{"managedFields":[{}]}}`, 1},
	} {
		obj, _, err := c.apply(podKind, live, []byte(c.body), "")
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		got := obj.GetManagedFields()
		if c.entries < 0 && entriesOf(obj) != entriesOf(live) || c.entries >= 0 && (len(got) != c.entries || c.entries == 1 && got[0] != (metav1.ManagedFieldsEntry{})) {
			t.Errorf("%s: entries %v", c.body, got)
		}
	}
	if !reflect.DeepEqual(before, live) {
		t.Error("the live object was changed")
	}
}

// TestApart checks that a patch of some fields does what it does with all of them in sight.
func TestApart(t *testing.T) {
	live := aPod()
	live.Status = corev1.PodStatus{Phase: "Pending", Conditions: []corev1.PodCondition{{Type: "Ready", Status: "False"}}, PodIPs: []corev1.PodIP{}}
	for name, apply := range map[string]func(*api.Kind, api.Object, []byte, string) (api.Object, []string, error){"strategic": Strategic, "merge": Merge} {
		for _, body := range []string{
			`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}%s}`,
			`{"metadata":{"labels":{"app":null,"b":"c"}}%s}`, `{"metadata":{"finalizers":["a/b"]},"status":null%s}`,
			`{"spec":{"nodeName":"n","containers":null}%s}`, `{"nope":1%s}`, `{"kind":"Pod"%s}`, `{"$patch":"replace","metadata":{"name":"web-7d4b9c6f5-x2x9k"}%s}`,
		} {
			some := strings.Replace(body, "%s", "", 1)
			for _, more := range []string{`"spec":{}`, `"status":{}`} {
				if key, _, _ := strings.Cut(more, ":"); !strings.Contains(body, key) {
					body = strings.Replace(body, "%s", ","+more+"%s", 1)
				}
			}
			all := strings.Replace(body, "%s", "", 1)
			a, warnA, errA := apply(podKind, live, []byte(some), "Warn")
			b, warnB, errB := apply(podKind, live, []byte(all), "Warn")
			if (errA == nil) != (errB == nil) || !reflect.DeepEqual(warnA, warnB) {
				t.Errorf("%s %s: %v, %v, with all %v, %v", name, some, warnA, errA, warnB, errB)
				continue
			}
			if errA == nil && !equality.Semantic.DeepEqual(a, b) {
				t.Errorf("%s %s:\n%v\nwith all\n%v", name, some, a, b)
			}
		}
	}
	if want := aPod(); !reflect.DeepEqual(want.Spec, live.Spec) {
		t.Error("the live object was changed")
	}
}
