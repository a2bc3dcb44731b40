package apiserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/webhook"
	hookclient "github.com/proa-dev/proa/access/webhook/client"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
)

// hooked is a house with webhooks, and one server that answers for them all.
type hooked struct {
	*house
	ca     []byte
	port   int32
	behind bool // the server is behind service default/hook

	mu     sync.Mutex
	asked  []*admissionv1.AdmissionRequest
	answer map[string]func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse // by path
}

func newHooked(t *testing.T) *hooked {
	t.Helper()
	h := &hooked{answer: map[string]func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse{}}
	h.house = newHouseWith(t, func(reader api.Reader, z *rules, list *catalog.Catalog) []admission.Step {
		log := slog.New(slog.DiscardHandler)
		w := webhook.New(webhook.Config{
			Reader: reader, Kinds: catalog.NewVersions(list), Authorizer: z, Log: log,
			Clients: hookclient.New(hookclient.Config{Reader: loopback{reader, h}, Log: log}),
		})
		return []admission.Step{w.Mutating(), w.Validating()}
	})
	server := httptest.NewUnstartedServer(http.HandlerFunc(h.serve))
	cert, ca := certificate(t, "hook.default.svc")
	h.ca = ca
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	port, err := strconv.Atoi(server.URL[strings.LastIndex(server.URL, ":")+1:])
	if err != nil {
		t.Fatal(err)
	}
	h.port = int32(port)
	return h
}

// loopback adds the server's endpoint, which a stored slice cannot have, to a reader.
type loopback struct {
	api.Reader
	h *hooked
}

func (l loopback) Get(gr schema.GroupResource, namespace, name string) (api.Object, bool) {
	if gr.Resource != "services" || !l.h.behind {
		return l.Reader.Get(gr, namespace, name)
	}
	return &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}}, true
}

func (l loopback) List(gr schema.GroupResource, namespace string) []api.Object {
	if gr.Resource != "endpointslices" {
		return l.Reader.List(gr, namespace)
	}
	name := "https"
	return []api.Object{&discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "hook-1", Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "hook"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &l.h.port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"127.0.0.1"}}},
	}}
}

func certificate(t *testing.T, name string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, pemOf(raw)
}

func (h *hooked) serve(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	h.asked = append(h.asked, review.Request)
	f := h.answer[r.URL.Path]
	h.mu.Unlock()
	if f == nil {
		http.NotFound(w, r)
		return
	}
	review.Response = f(review.Request)
	review.Response.UID = review.Request.UID
	review.Request = nil
	_ = json.NewEncoder(w).Encode(review)
}

func (h *hooked) on(path string, f func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer[path] = f
}

// last is the last question.
func (h *hooked) last(t *testing.T) *admissionv1.AdmissionRequest {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.asked) == 0 {
		t.Fatal("no webhook was asked")
	}
	return h.asked[len(h.asked)-1]
}

func (h *hooked) config(path string) registrationv1.WebhookClientConfig {
	url := "https://127.0.0.1:" + strconv.Itoa(int(h.port)) + path
	return registrationv1.WebhookClientConfig{URL: &url, CABundle: h.ca}
}

func rule(group, version, resource string, ops ...registrationv1.OperationType) []registrationv1.RuleWithOperations {
	return []registrationv1.RuleWithOperations{{Operations: ops, Rule: registrationv1.Rule{
		APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource},
	}}}
}

var none = registrationv1.SideEffectClassNone

func (h *hooked) validating(t *testing.T, name, path string, rules []registrationv1.RuleWithOperations, edit ...func(*registrationv1.ValidatingWebhook)) {
	t.Helper()
	w := registrationv1.ValidatingWebhook{
		Name: name + ".example.com", ClientConfig: h.config(path), Rules: rules, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
	}
	for _, e := range edit {
		e(&w)
	}
	c := &registrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []registrationv1.ValidatingWebhook{w}}
	if _, err := h.typed("root").AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (h *hooked) mutating(t *testing.T, name, path string, rules []registrationv1.RuleWithOperations, edit ...func(*registrationv1.MutatingWebhook)) {
	t.Helper()
	w := registrationv1.MutatingWebhook{
		Name: name + ".example.com", ClientConfig: h.config(path), Rules: rules, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
	}
	for _, e := range edit {
		e(&w)
	}
	c := &registrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []registrationv1.MutatingWebhook{w}}
	if _, err := h.typed("root").AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func allow(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Allowed: true}
}

func deny(text string) func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: text}, Warnings: []string{"beware"}}
	}
}

func patched(patch string) func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		kind := admissionv1.PatchTypeJSONPatch
		return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(patch), PatchType: &kind}
	}
}

func plainMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: map[string]string{"a": "b"}}
}

func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not contain %q", err, text)
		}
	}
}

func TestWebhookDenies(t *testing.T) {
	h := newHooked(t)
	maps := h.typed("root").CoreV1().ConfigMaps("default")
	if _, err := maps.Create(t.Context(), plainMap("old"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	h.on("/deny", deny("not here"))
	h.validating(t, "deny", "/deny", rule("", "v1", "configmaps", "CREATE", "UPDATE", "DELETE"), func(w *registrationv1.ValidatingWebhook) {
		w.MatchConditions = []registrationv1.MatchCondition{{Name: "not-free", Expression: `!(has(object.metadata) && object.metadata.name == "free")`}}
		w.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "skip", Operator: "DoesNotExist"}}}
	})
	_, err := maps.Create(t.Context(), plainMap("new"), metav1.CreateOptions{})
	wantError(t, err, `admission webhook "deny.example.com" denied the request: not here`)
	answer := h.do("POST", "/api/v1/namespaces/default/configmaps", `{"metadata":{"name":"x"}}`)
	if answer.code != 400 || !strings.Contains(answer.header.Get("Warning"), "beware") {
		t.Errorf("got %d and warning %q", answer.code, answer.header.Get("Warning"))
	}
	q := h.last(t)
	if q.Operation != "CREATE" || q.Kind.Kind != "ConfigMap" || q.Resource.Resource != "configmaps" || q.Namespace != "default" || q.UserInfo.Username != "root" || q.Name != "x" {
		t.Errorf("asked %+v", q)
	}
	wantError(t, maps.Delete(t.Context(), "old", metav1.DeleteOptions{}), "not here")
	if _, err := maps.Create(t.Context(), plainMap("free"), metav1.CreateOptions{}); err != nil {
		t.Errorf("a condition that is false: %v", err)
	}
	if _, err := maps.Patch(t.Context(), "old", "application/merge-patch+json", []byte(`{"data":{"a":"c"}}`), metav1.PatchOptions{}); err == nil {
		t.Error("a patch passed")
	}
	skipped := plainMap("skipped")
	skipped.Labels = map[string]string{"skip": "1"}
	if _, err := maps.Create(t.Context(), skipped, metav1.CreateOptions{}); err != nil {
		t.Errorf("an object that is not selected: %v", err)
	}
}
