package custom_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

const hosts = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: hosts.example.com}
spec:
	group: example.com
	scope: Cluster
	names: {plural: hosts, kind: Host}
	versions:
	- name: v1
		served: true
		storage: true
		deprecated: true
		selectableFields: [{jsonPath: .hostPort}]
		schema: {openAPIV3Schema: {type: object, properties: {hostPort: {type: string}}}}
	- name: v2
		served: true
		storage: false
		selectableFields: [{jsonPath: .host}]
		schema: {openAPIV3Schema: {type: object, properties: {host: {type: string}, port: {type: string, default: "80"}, tier: {type: string, default: low}}}}
`

// hook converts between the versions of hosts.
type hook struct {
	*httptest.Server
	calls, objects atomic.Int64
	fail           atomic.Pointer[string]
}

func newHook(t *testing.T) *hook {
	k := &hook{}
	k.Server = httptest.NewTLSServer(http.HandlerFunc(k.serve))
	t.Cleanup(k.Close)
	return k
}

func (k *hook) serve(w http.ResponseWriter, r *http.Request) {
	review := apiextensionsv1.ConversionReview{}
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	k.calls.Add(1)
	response := &apiextensionsv1.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
	for _, o := range review.Request.Objects {
		k.objects.Add(1)
		u := map[string]any{}
		if err := json.Unmarshal(o.Raw, &u); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if strings.HasSuffix(review.Request.DesiredAPIVersion, "v2") {
			text, _ := u["hostPort"].(string)
			host, port, _ := strings.Cut(text, ":")
			u["host"], u["port"] = host, port
			delete(u, "hostPort")
		} else {
			u["hostPort"] = fmt.Sprint(u["host"], ":", u["port"])
			delete(u, "host")
			delete(u, "port")
		}
		u["apiVersion"] = review.Request.DesiredAPIVersion
		raw, _ := json.Marshal(u)
		response.ConvertedObjects = append(response.ConvertedObjects, runtime.RawExtension{Raw: raw})
	}
	if text := k.fail.Load(); text != nil {
		response.Result = metav1.Status{Status: metav1.StatusFailure, Message: *text}
	}
	review.Request, review.Response = nil, response
	_ = json.NewEncoder(w).Encode(review)
}

// into makes the hook a definition's converter.
func (k *hook) into(d *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinition {
	url := strings.Replace(k.URL, "127.0.0.1", "127.0.0.1", 1)
	d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{
		Strategy: apiextensionsv1.WebhookConverter,
		Webhook: &apiextensionsv1.WebhookConversion{
			ConversionReviewVersions: []string{"v1"},
			ClientConfig: &apiextensionsv1.WebhookClientConfig{
				URL: &url, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate().Raw}),
			},
		},
	}
	return d
}

func host(name, host, port string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v2", "kind": "Host", "metadata": map[string]any{"name": name}, "host": host, "port": port,
	}}
}

func TestWebhook(t *testing.T) {
	h, k, ctx := newHouse(t, nil), newHook(t), t.Context()
	d := h.define(k.into(definition(t, hosts)))
	v1, v2 := h.of(d, "v1"), h.of(d, "v2")
	wctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	w, err := v2.Watch(wctx, metav1.ListOptions{FieldSelector: "host=host1"})
	check(t, err)
	defer w.Stop()
	for i := range 5 {
		made, err := v2.Create(ctx, host(fmt.Sprint("a", i), fmt.Sprint("host", i), "8080"), metav1.CreateOptions{})
		check(t, err)
		// What the stored version cannot say is lost, and read without a default of this one.
		if made.Object["tier"] != nil || made.Object["port"] != "8080" {
			t.Errorf("made %v", made.Object)
		}
	}
	if e := <-w.ResultChan(); e.Type != "ADDED" || e.Object.(*unstructured.Unstructured).Object["host"] != "host1" {
		t.Errorf("event %v", e)
	}
	old, err := v1.Get(ctx, "a1", metav1.GetOptions{})
	check(t, err)
	if old.Object["hostPort"] != "host1:8080" || old.Object["tier"] != nil {
		t.Errorf("in v1 %v", old.Object)
	}
	calls := k.calls.Load()
	list, err := v2.List(ctx, metav1.ListOptions{FieldSelector: "host=host1"})
	check(t, err)
	if len(list.Items) != 1 || k.calls.Load() > calls+1 {
		t.Errorf("%d objects after %d calls", len(list.Items), k.calls.Load()-calls)
	}
	_, err = v1.Patch(ctx, "a1", types.MergePatchType, []byte(`{"hostPort":"other:1"}`), metav1.PatchOptions{})
	check(t, err)
	if e := <-w.ResultChan(); e.Type != "DELETED" {
		t.Errorf("event %v", e)
	}
	applied, err := v2.Apply(ctx, "a1", host("a1", "third", "3"), metav1.ApplyOptions{FieldManager: "me", Force: true})
	check(t, err)
	if applied.Object["host"] != "third" {
		t.Errorf("applied %v", applied.Object)
	}
	text := "not today"
	k.fail.Store(&text)
	plain := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Host", "metadata": map[string]any{"name": "b"}, "hostPort": "x:1"}}
	_, err = v1.Create(ctx, plain, metav1.CreateOptions{})
	check(t, err)
	_, err = v2.Get(ctx, "b", metav1.GetOptions{})
	fails(t, err, "conversion webhook for example.com/v1, Kind=Host failed: not today")
	k.fail.Store(nil)
	check(t, h.defs.ApiextensionsV1().CustomResourceDefinitions().Delete(ctx, d.Name, metav1.DeleteOptions{}))
	h.gone(d.Name)
}

// A new version that is stored leaves objects in the old one, which both versions show.
func TestStorageVersion(t *testing.T) {
	h, ctx := newHouse(t, nil), t.Context()
	d := h.define(definition(t, hosts))
	u := host("old", "x", "1")
	u.SetAPIVersion("example.com/v1")
	_, err := h.of(d, "v1").Create(ctx, u, metav1.CreateOptions{})
	check(t, err)
	w, err := h.of(d, "v2").Watch(ctx, metav1.ListOptions{})
	check(t, err)
	defer w.Stop()
	<-w.ResultChan()
	d.Spec.Versions[0].Storage, d.Spec.Versions[1].Storage = false, true
	d, err = h.defs.ApiextensionsV1().CustomResourceDefinitions().Update(ctx, d, metav1.UpdateOptions{})
	check(t, err)
	if len(d.Status.StoredVersions) != 2 {
		t.Errorf("stored versions %v", d.Status.StoredVersions)
	}
	select {
	case _, open := <-w.ResultChan():
		if open {
			t.Error("an event nobody caused")
		}
	case <-time.After(5 * time.Second):
		t.Error("a watch goes on with the kind of before")
	}
	_, err = h.of(d, "v2").Create(ctx, host("new", "x", "1"), metav1.CreateOptions{})
	check(t, err)
	for _, version := range []string{"v1", "v2"} {
		list, err := h.of(d, version).List(ctx, metav1.ListOptions{})
		check(t, err)
		for _, u := range list.Items {
			if u.GetAPIVersion() != "example.com/"+version || len(list.Items) != 2 {
				t.Errorf("%s: %v", version, u.Object)
			}
		}
	}
	d.Spec.Versions = d.Spec.Versions[1:]
	_, err = h.defs.ApiextensionsV1().CustomResourceDefinitions().Update(ctx, d, metav1.UpdateOptions{})
	fails(t, err, "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version")
}
