package apiserver_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cbor "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	clientfeatures "k8s.io/client-go/features"
	featurestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/apiserver"
)

func speaksCBOR(cfg *apiserver.Config) { cfg.CBOR = true }

// watched notes the media types that a client is answered with.
type watched struct {
	http.RoundTripper
	seen func(r *http.Request, answer string)
}

func (w watched) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(r)
	if err == nil {
		w.seen(r, resp.Header.Get("Content-Type"))
	}
	return resp, err
}

// inCBOR is a configuration of a client that speaks CBOR alone; the test fails when it is answered in another form.
func (h *house) inCBOR(t *testing.T) *rest.Config {
	c := h.config("root")
	c.ContentType, c.AcceptContentTypes = "application/cbor", "application/cbor"
	c.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return watched{rt, func(r *http.Request, answer string) {
			want := "application/cbor"
			if r.URL.Query().Get("watch") != "" {
				want = "application/cbor-seq"
			}
			if answer != want {
				t.Errorf("%s %s: answered in %s", r.Method, r.URL, answer)
			}
			if sent := r.Header.Get("Content-Type"); sent != "" && !strings.Contains(sent, "cbor") && r.Method != http.MethodGet {
				t.Errorf("%s %s: sent as %s", r.Method, r.URL, sent)
			}
		}}
	})
	return c
}

func allowCBOR(t *testing.T) {
	featurestesting.SetFeatureDuringTest(t, clientfeatures.ClientsAllowCBOR, true)
	featurestesting.SetFeatureDuringTest(t, clientfeatures.ClientsPreferCBOR, true)
}

// A typed client and its informer, in CBOR alone.
func TestClientInCBOR(t *testing.T) {
	allowCBOR(t)
	h := newHouseEdited(t, speaksCBOR)
	c := client(t, kubernetes.NewForConfig, h.inCBOR(t))
	seen := make(chan *corev1.Secret, 16)
	factory := informers.NewSharedInformerFactoryWithOptions(c, 0, informers.WithNamespace("default"))
	informer := factory.Core().V1().Secrets().Informer()
	note := func(obj any) {
		if s, ok := obj.(*corev1.Secret); ok {
			seen <- s
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: note, UpdateFunc: func(_, obj any) { note(obj) }, DeleteFunc: note}); err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	next := func() *corev1.Secret {
		t.Helper()
		select {
		case s := <-seen:
			return s
		case <-time.After(10 * time.Second):
			t.Fatal("no event")
			return nil
		}
	}
	secrets := c.CoreV1().Secrets("default")
	data := map[string][]byte{"raw": {0, 0xff, 0xfe, 'x'}, "text": []byte("a text"), "none": {}}
	made, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Labels: map[string]string{"a": "b"}}, Data: data}, metav1.CreateOptions{})
	if err != nil || !bytes.Equal(made.Data["raw"], data["raw"]) || made.UID == "" || made.Kind != "" && made.Kind != "Secret" {
		t.Fatal(err, made)
	}
	if s := next(); s.UID != made.UID || !bytes.Equal(s.Data["raw"], data["raw"]) || !s.CreationTimestamp.Equal(&made.CreationTimestamp) {
		t.Errorf("got %v", s)
	}
	if len(made.ManagedFields) != 1 || !strings.Contains(string(made.ManagedFields[0].FieldsV1.GetRawBytes()), "f:data") {
		t.Errorf("managed fields: %v", made.ManagedFields)
	}
	made.Data["text"] = []byte("another")
	if made, err = secrets.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := next(); string(s.Data["text"]) != "another" || s.ResourceVersion != made.ResourceVersion {
		t.Errorf("got %v", s)
	}
	list, err := secrets.List(t.Context(), metav1.ListOptions{LabelSelector: "a=b"})
	if err != nil || len(list.Items) != 1 || list.ResourceVersion == "" || string(list.Items[0].Data["text"]) != "another" {
		t.Fatal(err, list)
	}
	_, err = secrets.Create(t.Context(), made, metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), "resourceVersion should not be set") {
		t.Error(err)
	}
	if _, err := secrets.Get(t.Context(), "none", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Error(err)
	}
	uid := types.UID("other")
	if err := secrets.Delete(t.Context(), "s", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); !apierrors.IsConflict(err) {
		t.Error(err)
	}
	if err := secrets.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := next(); s.Name != "s" {
		t.Errorf("got %v", s)
	}
}

// Server-side apply and field validation of the dynamic client.
func TestApplyInCBOR(t *testing.T) {
	allowCBOR(t)
	h := newHouseEdited(t, speaksCBOR)
	c := client(t, dynamic.NewForConfig, h.inCBOR(t)).Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("default")
	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "m"}, "data": map[string]any{"a": "b"},
	}}
	made, err := c.Apply(t.Context(), "m", obj, metav1.ApplyOptions{FieldManager: "one"})
	if err != nil || made.GetManagedFields()[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Fatal(err, made)
	}
	obj.Object["data"] = map[string]any{"a": "c"}
	if _, err := c.Apply(t.Context(), "m", obj, metav1.ApplyOptions{FieldManager: "two"}); !apierrors.IsConflict(err) {
		t.Error(err)
	}
	obj.Object["other"] = int64(7)
	_, err = c.Update(t.Context(), obj, metav1.UpdateOptions{FieldValidation: "Strict"})
	if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `unknown field "other"`) {
		t.Error(err)
	}
	warned, err := c.Update(t.Context(), obj, metav1.UpdateOptions{FieldValidation: "Warn"})
	if v, _, _ := unstructured.NestedString(warned.Object, "data", "a"); err != nil || v != "c" {
		t.Error(err, warned)
	}
	list, err := c.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].GetKind() != "ConfigMap" || list.GetKind() != "ConfigMapList" {
		t.Error(err, list)
	}
}

// What is asked for in CBOR and is no object, and what is refused.
func TestAnswersInCBOR(t *testing.T) {
	h := newHouseEdited(t, func(cfg *apiserver.Config) { speaksCBOR(cfg); withComponents(cfg) })
	get := func(path, accept, as string) map[string]any {
		t.Helper()
		a := h.do("GET", path, "", "Accept", accept)
		var got map[string]any
		if err := cbor.Unmarshal(a.body, &got); err != nil || !bytes.HasPrefix(a.body, []byte{0xd9, 0xd9, 0xf7}) || a.header.Get("Content-Type") != "application/cbor" {
			t.Fatalf("%s: %v: %s %.100q", path, err, a.header.Get("Content-Type"), a.body)
		}
		if got["kind"] != as {
			t.Errorf("%s: is a %v", path, got["kind"])
		}
		return got
	}
	const table, part = ";as=Table;g=meta.k8s.io;v=v1", ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	rows := get("/api/v1/namespaces", "application/cbor"+table, "Table")["rows"].([]any)
	if row := rows[0].(map[string]any); row["cells"].([]any)[0] != "default" || row["object"].(map[string]any)["kind"] != "PartialObjectMetadata" {
		t.Error(row)
	}
	get("/api/v1/namespaces/default", "application/cbor"+table, "Table")
	get("/api/v1/namespaces", "application/cbor"+part, "PartialObjectMetadataList")
	items := get("/api/v1/namespaces", "application/json;q=0.9,application/cbor;q=1", "NamespaceList")["items"].([]any)
	first := items[0].(map[string]any)
	if _, typed := first["kind"]; len(items) != 2 || typed || first["metadata"].(map[string]any)["name"] != "default" || first["spec"] == nil {
		t.Error(items)
	}
	if one := get("/api/v1/namespaces/default", "application/cbor", "Namespace"); one["apiVersion"] != "v1" || one["spec"] == nil {
		t.Error(one)
	}
	get("/api/v1/componentstatuses", "application/cbor", "ComponentStatusList")
	get("/api/v1", "application/cbor", "APIResourceList")
	get("/apis", "application/cbor", "APIGroupList")
	if s := get("/api/v1/namespaces/none", "application/cbor", "Status"); s["code"] != int64(404) {
		t.Error(s)
	}
	if a := h.do("GET", "/api/v1/namespaces", "", "Accept", "application/cbor;q=0.1,application/json"); a.header.Get("Content-Type") != "application/json" {
		t.Error(a.header)
	}
	for _, accept := range []string{"application/cbor", "application/cbor-seq"} {
		a := h.do("GET", "/api/v1/namespaces?watch=1&resourceVersion=0&timeoutSeconds=1", "", "Accept", accept)
		if a.header.Get("Content-Type") != "application/cbor-seq" || !bytes.Contains(a.body, []byte("EADDED")) {
			t.Errorf("%v %.100q", a.header, a.body)
		}
	}
	for body, text := range map[string]string{
		"\xa1":                   "unexpected end of data",
		"\xa2\x41a\x01\x41a\x01": "duplicate map key",
		"\xa1\x44data\xa1\x41a\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00": "NaN",
		"\xbb\xff\xff\xff\xff\xff\xff\xff\xff":                      "unexpected end of data",
		"\xa1\x41\xff\x01":                                          "UTF-8",
		"\xa1\x44kind\x43Pod":                                       "Pod in version",
		strings.Repeat("\x81", 20000) + "\x00":                      "exceeded max nested level",
		"\x01":                                                      "cannot unmarshal",
		"":                                                          "",
	} {
		a := h.do("POST", "/api/v1/namespaces/default/configmaps", body, "Content-Type", "application/cbor")
		if s := a.status(t); s.Code != 400 || !strings.Contains(s.Message, text) {
			t.Errorf("%.20q: %d %s", body, s.Code, s.Message)
		}
	}
	a := h.do("PATCH", "/api/v1/namespaces/default/configmaps/m?fieldManager=x", "\xa1", "Content-Type", "application/apply-patch+cbor")
	if s := a.status(t); s.Code != 400 || !strings.HasPrefix(s.Message, "error decoding patch: ") {
		t.Errorf("%s", a.body)
	}
}

// Without the gate nobody speaks it.
func TestCBORIsOff(t *testing.T) {
	h := newHouse(t)
	a := h.do("GET", "/api/v1/namespaces", "", "Accept", "application/cbor")
	if s := a.status(t); s.Code != 406 || strings.Contains(s.Message, "cbor") {
		t.Errorf("%s", a.body)
	}
	if a := h.do("GET", "/api/v1", "", "Accept", "application/cbor"); a.code != 406 {
		t.Errorf("%d %s", a.code, a.body)
	}
	a = h.do("POST", "/api/v1/namespaces/default/configmaps", "\xa0", "Content-Type", "application/cbor")
	if s := a.status(t); s.Code != 415 || strings.Contains(s.Message, "application/protobuf, application/cbor") {
		t.Errorf("%s", a.body)
	}
	a = h.do("PATCH", "/api/v1/namespaces/default/configmaps/m?fieldManager=x", "\xa0", "Content-Type", "application/apply-patch+cbor")
	if s := a.status(t); s.Code != 415 {
		t.Errorf("%s", a.body)
	}
	if a := h.do("GET", "/api/v1/namespaces", "", "Accept", "application/cbor,application/json"); a.code != 200 {
		t.Errorf("%d %s", a.code, a.body)
	}
}

// Weights count, and what names no type comes last.
func TestAcceptWeights(t *testing.T) {
	h := newHouse(t)
	for accept, want := range map[string]string{
		"application/yaml;q=0.5,application/json":                            "application/json",
		"application/json; q=0.5, application/yaml":                          "application/yaml",
		"*/*,application/yaml":                                               "application/yaml",
		"application/*;q=0.9,*/*;q=0.8":                                      "application/json",
		"text/html,application/vnd.kubernetes.protobuf;q=0.1":                "application/vnd.kubernetes.protobuf",
		"application/vnd.kubernetes.protobuf,application/json,*/*":           "application/vnd.kubernetes.protobuf",
		"application/yaml;q=x,application/json;as=Table;v=v1;g=meta.k8s.io":  "application/yaml",
		"text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8": "application/json",
	} {
		if a := h.do("GET", "/api/v1/namespaces/default", "", "Accept", accept); a.header.Get("Content-Type") != want {
			t.Errorf("%s: %s", accept, a.header.Get("Content-Type"))
		}
	}
}
