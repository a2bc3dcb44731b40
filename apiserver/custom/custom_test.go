package custom_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/apis/apiextensions"
)

const crontabs = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
	group: stable.example.com
	scope: Namespaced
	names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
	versions:
	- name: v1
		served: true
		storage: true
		subresources:
			status: {}
			scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.labelSelector}
		additionalPrinterColumns:
		- {name: Spec, type: string, jsonPath: .spec.cronSpec}
		- {name: Replicas, type: integer, jsonPath: .spec.replicas}
		selectableFields:
		- jsonPath: .spec.color
		schema:
			openAPIV3Schema:
				type: object
				properties:
					spec:
						type: object
						required: [cronSpec]
						x-kubernetes-validations:
						- {rule: "!has(self.color) || self.color != 'black'", message: "no black", fieldPath: .color, reason: FieldValueForbidden}
						properties:
							cronSpec: {type: string, pattern: '^\S+( \S+){4}$'}
							image: {type: string}
							color: {type: string}
							replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
							owner:
								type: string
								x-kubernetes-validations: [{rule: "self == oldSelf", message: "owner is immutable"}]
					status:
						type: object
						properties:
							replicas: {type: integer}
							labelSelector: {type: string}
`

const crontab = `
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: a, namespace: default}
spec: {cronSpec: "* * * * */5", color: blue, owner: me, unknown: 1}
status: {replicas: 7}
`

func TestLife(t *testing.T) {
	h, ctx := newHouse(t, nil), t.Context()
	start := time.Now()
	d := h.define(definition(t, crontabs))
	t.Logf("established after %v", time.Since(start))
	if d.Status.AcceptedNames.ListKind != "CronTabList" || len(d.Status.StoredVersions) != 1 {
		t.Errorf("status %+v", d.Status)
	}
	c := h.of(d, "v1").Namespace("default")
	made, err := c.Create(ctx, object(t, crontab), metav1.CreateOptions{})
	check(t, err)
	if n, _, _ := unstructured.NestedInt64(made.Object, "spec", "replicas"); n != 1 {
		t.Errorf("no default: %v", made.Object)
	}
	if _, found, _ := unstructured.NestedFieldNoCopy(made.Object, "spec", "unknown"); found || made.Object["status"] != nil || made.GetGeneration() != 1 {
		t.Errorf("not pruned, or with status: %v", made.Object)
	}
	if m := made.GetManagedFields(); len(m) != 1 || m[0].FieldsV1 == nil {
		t.Errorf("managed fields %+v", m)
	}
	wctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	w, err := c.Watch(wctx, metav1.ListOptions{FieldSelector: "spec.color=blue", ResourceVersion: made.GetResourceVersion()})
	check(t, err)
	defer w.Stop()
	updated, err := c.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"color":"red"}}`), metav1.PatchOptions{})
	check(t, err)
	if updated.GetGeneration() != 2 {
		t.Errorf("generation %d", updated.GetGeneration())
	}
	if e := <-w.ResultChan(); e.Type != "DELETED" {
		t.Errorf("watch of blue ones: %v", e)
	}
	status, err := c.Patch(ctx, "a", types.MergePatchType, []byte(`{"status":{"replicas":3},"spec":{"color":"green"}}`), metav1.PatchOptions{}, "status")
	check(t, err)
	if color, _, _ := unstructured.NestedString(status.Object, "spec", "color"); color != "red" || status.GetGeneration() != 2 {
		t.Errorf("status write: %v", status.Object)
	}
	scale, err := c.Get(ctx, "a", metav1.GetOptions{}, "scale")
	check(t, err)
	if n, _, _ := unstructured.NestedInt64(scale.Object, "status", "replicas"); n != 3 || scale.GetKind() != "Scale" {
		t.Errorf("scale %v", scale.Object)
	}
	_, err = c.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{}, "scale")
	check(t, err)
	list, err := c.List(ctx, metav1.ListOptions{FieldSelector: "spec.color=red"})
	check(t, err)
	if len(list.Items) != 1 || list.GetKind() != "CronTabList" || list.Items[0].GetKind() != "CronTab" {
		t.Errorf("list %v", list)
	}
	if n, _, _ := unstructured.NestedInt64(list.Items[0].Object, "spec", "replicas"); n != 5 {
		t.Errorf("scaled to %d", n)
	}
	check(t, h.defs.ApiextensionsV1().CustomResourceDefinitions().Delete(ctx, d.Name, metav1.DeleteOptions{}))
	h.gone(d.Name)
	for began := time.Now(); ; time.Sleep(time.Millisecond) { // the catalog follows the store
		_, err := c.List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("after the end: %v", err)
		}
	}
	h.define(definition(t, crontabs))
	if list, err := c.List(ctx, metav1.ListOptions{}); err != nil || len(list.Items) > 0 {
		t.Errorf("made again: %v, %v", list, err)
	}
}

func TestRefusals(t *testing.T) {
	h, ctx := newHouse(t, nil), t.Context()
	c := h.of(h.define(definition(t, crontabs)), "v1").Namespace("default")
	create := func(edit func(spec map[string]any)) error {
		u := object(t, crontab)
		edit(u.Object["spec"].(map[string]any))
		_, err := c.Create(ctx, u, metav1.CreateOptions{DryRun: []string{"All"}})
		return err
	}
	fails(t, create(func(s map[string]any) { s["replicas"] = int64(11) }),
		`CronTab.stable.example.com "a" is invalid: spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10`)
	fails(t, create(func(s map[string]any) { s["cronSpec"] = int64(1) }), `spec.cronSpec: Invalid value: "integer": spec.cronSpec in body must be of type string: "integer"`)
	fails(t, create(func(s map[string]any) { delete(s, "cronSpec") }), `spec.cronSpec: Required value`, `some validation rules were not checked because the object was invalid`)
	fails(t, create(func(s map[string]any) { s["cronSpec"] = "x" }), `spec.cronSpec in body should match '^\S+( \S+){4}$'`)
	fails(t, create(func(s map[string]any) { s["color"] = "black" }), `spec.color: Forbidden: no black`)
	_, err := c.Create(ctx, object(t, crontab), metav1.CreateOptions{FieldValidation: "Strict"})
	fails(t, err, `strict decoding error: unknown field "spec.unknown"`)
	_, err = c.Create(ctx, object(t, crontab), metav1.CreateOptions{})
	check(t, err)
	_, err = c.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"owner":"you"}}`), metav1.PatchOptions{})
	fails(t, err, `spec.owner: Invalid value: "you": owner is immutable`)
	_, err = c.Patch(ctx, "a", types.StrategicMergePatchType, []byte(`{}`), metav1.PatchOptions{})
	if !apierrors.IsUnsupportedMediaType(err) {
		t.Errorf("strategic merge patch: %v", err)
	}
	_, err = c.Apply(ctx, "a", object(t, crontab), metav1.ApplyOptions{FieldManager: "me", Force: true})
	fails(t, err, `.spec.unknown: field not declared in schema`)
	u := object(t, crontab)
	delete(u.Object["spec"].(map[string]any), "unknown")
	delete(u.Object, "status")
	applied, err := c.Apply(ctx, "a", u, metav1.ApplyOptions{FieldManager: "me"})
	check(t, err)
	if len(applied.GetManagedFields()) != 2 {
		t.Errorf("managed %v", applied.GetManagedFields())
	}
	u.SetName("b")
	_, err = c.Apply(ctx, "b", u, metav1.ApplyOptions{FieldManager: "me"})
	check(t, err)
	u.Object["spec"].(map[string]any)["color"] = "pink"
	_, err = c.Apply(ctx, "b", u, metav1.ApplyOptions{FieldManager: "you"})
	fails(t, err, `conflict with "me"`, ".spec.color")
}

// What was valid once stays, when the schema grew stricter.
func TestRatchet(t *testing.T) {
	h, ctx := newHouse(t, nil), t.Context()
	d := h.define(definition(t, crontabs))
	c := h.of(d, "v1").Namespace("default")
	_, err := c.Create(ctx, object(t, crontab), metav1.CreateOptions{})
	check(t, err)
	spec := d.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	spec.Properties["color"] = apiextensionsv1.JSONSchemaProps{Type: "string", MaxLength: func() *int64 { n := int64(2); return &n }()}
	spec.Properties["added"] = apiextensionsv1.JSONSchemaProps{Type: "string", Default: &apiextensionsv1.JSON{Raw: []byte(`"x"`)}}
	d.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"] = spec
	_, err = h.defs.ApiextensionsV1().CustomResourceDefinitions().Update(ctx, d, metav1.UpdateOptions{})
	check(t, err)
	deadline := time.Now().Add(5 * time.Second)
	for {
		u, err := c.Get(ctx, "a", metav1.GetOptions{})
		check(t, err)
		if added, _, _ := unstructured.NestedString(u.Object, "spec", "added"); added == "x" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the new default is not seen: %v", u.Object)
		}
	}
	_, err = c.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"image":"x"}}`), metav1.PatchOptions{})
	check(t, err)
	_, err = c.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"color":"white"}}`), metav1.PatchOptions{})
	fails(t, err, "spec.color: Too long: may not be more than 2 bytes")
}

func TestNames(t *testing.T) {
	h, ctx := newHouse(t, nil), t.Context()
	first := h.define(definition(t, crontabs))
	other := definition(t, crontabs)
	other.Name, other.Spec.Names.Plural, other.Spec.Names.Singular = "others.stable.example.com", "others", "other"
	_, err := h.defs.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, other, metav1.CreateOptions{})
	check(t, err)
	d := h.await(other.Name, apiextensionsv1.NamesAccepted, apiextensionsv1.ConditionFalse)
	if c := apiextensions.Condition(d, apiextensionsv1.NamesAccepted); c.Reason != "ListKindConflict" || c.Message != `"CronTabList" is already in use` {
		t.Errorf("%+v", c)
	}
	if c := apiextensions.Condition(d, apiextensionsv1.Established); c.Reason != "NotAccepted" {
		t.Errorf("%+v", c)
	}
	check(t, h.defs.ApiextensionsV1().CustomResourceDefinitions().Delete(ctx, first.Name, metav1.DeleteOptions{}))
	h.await(other.Name, apiextensionsv1.Established, apiextensionsv1.ConditionTrue)
}

// Everything is there again after a restart, from the first request on.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	h := openHouse(t, dir, nil)
	d := h.define(definition(t, crontabs))
	_, err := h.of(d, "v1").Namespace("default").Create(t.Context(), object(t, crontab), metav1.CreateOptions{})
	check(t, err)
	h.stop()
	h = openHouse(t, dir, nil)
	list, err := h.of(d, "v1").List(t.Context(), metav1.ListOptions{})
	check(t, err)
	if len(list.Items) != 1 {
		t.Errorf("%d objects", len(list.Items))
	}
}

// BenchmarkDefine is how long a definition takes until its objects are served.
func BenchmarkDefine(b *testing.B) {
	h, n := newHouse(b, nil), 0
	d := definition(b, crontabs)
	for b.Loop() {
		n++
		one := d.DeepCopy()
		one.Spec.Group = "g" + strconv.Itoa(n) + ".example.com"
		one.Name = one.Spec.Names.Plural + "." + one.Spec.Group
		h.define(one)
	}
}

func BenchmarkCreate(b *testing.B) {
	h, n := newHouse(b, nil), 0
	c := h.of(h.define(definition(b, crontabs)), "v1").Namespace("default")
	u := object(b, crontab)
	delete(u.Object["spec"].(map[string]any), "unknown")
	for b.Loop() {
		n++
		u.SetName("a" + strconv.Itoa(n))
		if _, err := c.Create(b.Context(), u, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
