package apiserver_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// life is one object that goes through every verb, and what kubectl shows of it.
type life struct {
	Resource string         // group/version/resource
	Object   map[string]any // as a user writes it
	Status   map[string]any // written through the subresource; nil: there is none
	// Selectable fields that find the object, and the row of the table without its age.
	Fields string
	Row    string
	// Spec is a patch that the kind allows; nil: only labels may change.
	Spec map[string]any
}

// Every kind below works with every verb, in both encodings: create, get, list with
// selectors, watch, patch and update of object and status, table, delete, delete collection.
func TestLives(t *testing.T) {
	h := newHouse(t)
	raw, err := os.ReadFile("testdata/lives.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range strings.Split(string(raw), "\n---\n") {
		var l life
		if err := yaml.UnmarshalStrict([]byte(doc), &l); err != nil {
			t.Fatalf("%v: %s", err, doc)
		}
		t.Run(l.Resource, func(t *testing.T) { h.live(t, &l) })
	}
}

func (h *house) live(t *testing.T, l *life) {
	parts := strings.Split(l.Resource, "/")
	gvr := schema.GroupVersionResource{Group: parts[0], Version: parts[1], Resource: parts[2]}
	obj := &unstructured.Unstructured{Object: l.Object}
	obj.SetLabels(map[string]string{"life": "yes"})
	path := "/apis/" + l.Resource
	if gvr.Group == "core" {
		gvr.Group, path = "", "/api/v1/"+gvr.Resource
	}
	var c dynamic.ResourceInterface = h.dynamic().Resource(gvr)
	if ns := obj.GetNamespace(); ns != "" {
		c = h.dynamic().Resource(gvr).Namespace(ns)
		path = strings.TrimSuffix(path, gvr.Resource) + "namespaces/" + ns + "/" + gvr.Resource
	}
	ctx := t.Context()
	selected := metav1.ListOptions{LabelSelector: "life=yes", FieldSelector: l.Fields}
	seen, err := c.Watch(ctx, metav1.ListOptions{LabelSelector: "life=yes"})
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Stop()
	created, err := c.Create(ctx, obj, metav1.CreateOptions{FieldValidation: "Strict"})
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.List(ctx, selected)
	if err != nil || len(list.Items) != 1 || list.Items[0].GetUID() != created.GetUID() {
		t.Fatalf("list: %v %v", err, list)
	}
	h.encoded(t, path+"/"+obj.GetName())
	if l.Status != nil {
		h.liveStatus(t, c, obj.GetName(), l.Status)
	}
	if l.Row != "" {
		h.row(t, path, l.Row)
	}
	patch := map[string]any{"metadata": map[string]any{"annotations": map[string]any{"patched": "yes"}}}
	if l.Spec != nil {
		patch["spec"] = l.Spec
	}
	body, err := json.Marshal(patch)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := c.Patch(ctx, obj.GetName(), types.MergePatchType, body, metav1.PatchOptions{})
	if err != nil || patched.GetAnnotations()["patched"] != "yes" {
		t.Fatalf("patch: %v %v", err, patched)
	}
	if g := created.GetGeneration(); g > 0 && l.Spec != nil && patched.GetGeneration() != g+1 {
		t.Errorf("generation is %d after a change, was %d", patched.GetGeneration(), g)
	}
	patched.SetAnnotations(map[string]string{"updated": "yes"})
	updated, err := c.Update(ctx, patched, metav1.UpdateOptions{})
	if err != nil || updated.GetAnnotations()["updated"] != "yes" || updated.GetGeneration() != patched.GetGeneration() {
		t.Fatalf("update: %v %v", err, updated)
	}
	applied := obj.DeepCopy()
	applied.SetAnnotations(map[string]string{"applied": "yes"})
	if _, err := c.Apply(ctx, obj.GetName(), applied, metav1.ApplyOptions{FieldManager: "test", Force: true}); err != nil {
		t.Fatalf("apply: %v", err)
	}
	background := metav1.DeletePropagationBackground // some kinds keep what they own otherwise
	collected := metav1.DeleteOptions{PropagationPolicy: &background}
	if err := c.Delete(ctx, obj.GetName(), collected); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(ctx, obj, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteCollection(ctx, collected, selected); err != nil {
		t.Fatal(err)
	}
	if list, err := c.List(ctx, selected); err != nil || len(list.Items) != 0 {
		t.Fatalf("after deletecollection: %v %v", err, list)
	}
	var events []string
	for len(events) == 0 || strings.Count(strings.Join(events, " "), "DELETED") < 2 {
		select {
		case e := <-seen.ResultChan():
			events = append(events, string(e.Type))
		case <-time.After(5 * time.Second):
			t.Fatalf("saw only %v", events)
		}
	}
}

// encoded reads the object as protobuf too.
func (h *house) encoded(t *testing.T, path string) {
	t.Helper()
	if a := h.do("GET", path, "", "Accept", "application/vnd.kubernetes.protobuf"); a.code != 200 || !strings.HasPrefix(string(a.body), "k8s\x00") {
		t.Errorf("protobuf: %d %.100q", a.code, a.body)
	}
}

func (h *house) liveStatus(t *testing.T, c dynamic.ResourceInterface, name string, status map[string]any) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"status": status, "metadata": map[string]any{"annotations": map[string]any{"status": "yes"}}})
	if err != nil {
		t.Fatal(err)
	}
	patched, err := c.Patch(t.Context(), name, types.MergePatchType, body, metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatalf("patch of status: %v", err)
	}
	got, _, err := unstructured.NestedMap(patched.Object, "status")
	if err != nil || len(got) == 0 {
		t.Fatalf("status was not written: %v %v", err, patched)
	}
	read, err := c.Get(t.Context(), name, metav1.GetOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateStatus(t.Context(), read, metav1.UpdateOptions{}); err != nil {
		t.Fatalf("update of status: %v", err)
	}
	kept, err := c.Patch(t.Context(), name, types.MergePatchType, []byte(`{"status":null}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if left, _, _ := unstructured.NestedMap(kept.Object, "status"); len(left) == 0 {
		t.Error("a plain patch changed the status")
	}
}

func (h *house) row(t *testing.T, path, want string) {
	t.Helper()
	a := h.do("GET", path+"?labelSelector=life%3Dyes", "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	var table metav1.Table
	if err := json.Unmarshal(a.body, &table); err != nil || len(table.Rows) != 1 {
		t.Fatalf("table: %v %s", err, a.body)
	}
	var cells []string
	for i, c := range table.ColumnDefinitions {
		if c.Name == "Age" {
			continue
		}
		text, err := json.Marshal(table.Rows[0].Cells[i])
		if err != nil {
			t.Fatal(err)
		}
		plain := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `"`, "").Replace(string(text))
		cells = append(cells, strings.ToUpper(c.Name)+"="+plain)
	}
	if got := strings.Join(cells, " "); got != want {
		t.Errorf("row:\n got %s\nwant %s", got, want)
	}
}
