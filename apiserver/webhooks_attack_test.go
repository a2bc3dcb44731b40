package apiserver_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A webhook that redirects is not followed, wherever it points, and what it sends beside
// reaches the client as text at most (CVE-2020-8561).
func TestAttackWebhookRedirect(t *testing.T) {
	h := newHooked(t)
	var followed atomic.Int32
	inside := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		followed.Add(1)
		_ = json.NewEncoder(w).Encode(admissionv1.AdmissionReview{Response: &admissionv1.AdmissionResponse{Allowed: true}})
	}))
	defer inside.Close()
	code := http.StatusTemporaryRedirect
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inside.URL, code) }))
	defer hook.Close()
	h.validating(t, "away", "/away", rule("", "v1", "configmaps", "CREATE"), func(w *registrationv1.ValidatingWebhook) {
		w.ClientConfig = registrationv1.WebhookClientConfig{URL: &hook.URL, CABundle: pemOf(hook.Certificate().Raw)}
	})
	for _, code = range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		if a := h.do("POST", maps, `{"metadata":{"name":"m"}}`); a.code != http.StatusInternalServerError || a.header.Get("Location") != "" {
			t.Errorf("%d became %d %.300s", code, a.code, a.body)
		}
	}
	if n := followed.Load(); n > 0 {
		t.Errorf("followed %d times", n)
	}
	for _, url := range []string{"http://127.0.0.1/x", "https://user:secret@127.0.0.1/x", "https://127.0.0.1/x?y=z", "https://127.0.0.1/x#y", "file:///etc/passwd", "https:///x", ""} {
		w := registrationv1.ValidatingWebhook{Name: "a.example.com", ClientConfig: registrationv1.WebhookClientConfig{URL: &url}, SideEffects: &none, AdmissionReviewVersions: []string{"v1"}}
		c := &registrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Webhooks: []registrationv1.ValidatingWebhook{w}}
		if _, err := h.typed("root").AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), c, metav1.CreateOptions{}); err == nil {
			t.Errorf("a webhook at %q is accepted", url)
			_ = h.typed("root").AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(t.Context(), "a", metav1.DeleteOptions{})
		}
	}
}

// Validating webhooks compare with what is stored, whatever the client or a mutating webhook
// says that the object was (CVE-2021-25735).
func TestAttackOldObject(t *testing.T) {
	h := newHooked(t)
	nodes := h.typed("root").CoreV1().Nodes()
	stored, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"a": "1"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.on("/change", func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		kind := admissionv1.PatchTypeJSONPatch
		return &admissionv1.AdmissionResponse{Allowed: true, PatchType: &kind, Patch: []byte(`[{"op":"add","path":"/metadata/labels/b","value":"mutated"}]`)}
	})
	h.on("/check", deny("no"))
	h.mutating(t, "change", "/change", rule("", "v1", "nodes", "UPDATE"))
	h.validating(t, "check", "/check", rule("", "v1", "*", "UPDATE", "DELETE"))
	try := func(what, method, path, body string, headers ...string) {
		t.Helper()
		a := h.do(method, path, body, headers...)
		if a.code < 400 || !strings.Contains(string(a.body), "denied the request") {
			t.Errorf("%s: %d %.300s", what, a.code, a.body)
		}
		var old corev1.Node
		q := h.last(t)
		if err := json.Unmarshal(q.OldObject.Raw, &old); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if old.Labels["a"] != "1" || old.Labels["b"] != "" || len(old.Spec.Taints) > 0 || old.UID != stored.UID || old.ResourceVersion != stored.ResourceVersion {
			t.Errorf("%s: the old object is %s", what, q.OldObject.Raw)
		}
	}
	merge := []string{"Content-Type", "application/merge-patch+json"}
	try("put", "PUT", "/api/v1/nodes/n", `{"metadata":{"name":"n","labels":{"a":"2"}},"spec":{"taints":[{"key":"x","effect":"NoSchedule"}]}}`)
	try("put of the version", "PUT", "/api/v1/nodes/n", `{"metadata":{"name":"n","resourceVersion":"`+stored.ResourceVersion+`","labels":{"a":"2"}}}`)
	try("patch", "PATCH", "/api/v1/nodes/n", `{"metadata":{"labels":{"a":null,"c":"1"}}}`, merge...)
	try("apply", "PATCH", "/api/v1/nodes/n?fieldManager=m&force=true", `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n","labels":{"a":"2"}}}`, "Content-Type", "application/apply-patch+yaml")
	try("delete", "DELETE", "/api/v1/nodes/n", "")
	now, err := nodes.Get(t.Context(), "n", metav1.GetOptions{})
	if err != nil || now.ResourceVersion != stored.ResourceVersion {
		t.Errorf("%v: %+v", err, now)
	}
}
