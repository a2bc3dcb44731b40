package custom_test

import (
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/policy"
	"github.com/proa-dev/proa/access/webhook"
	"github.com/proa-dev/proa/access/webhook/client"
	"github.com/proa-dev/proa/apis/admissionregistration"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apiextensions"
	"github.com/proa-dev/proa/apiserver"
	"github.com/proa-dev/proa/apiserver/catalog"
)

const boats = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.example.com}
spec:
	group: example.com
	scope: Cluster
	names: {plural: boats, kind: Boat}
	versions:
	- {name: v1, served: true, storage: true, schema: {openAPIV3Schema: &s {type: object, properties: {
		data: {type: object, properties: {sails: {type: integer}, hulls: {type: integer, default: 2}, name: {type: string}}}}}}}
	- {name: v2, served: true, storage: false, schema: {openAPIV3Schema: *s}}
`

// Webhooks and policies see custom resources in the version they name; what they add that
// the schema does not have is dropped, and defaults follow.
func TestAdmissionOfCustomResources(t *testing.T) {
	h := openHouseWith(t, t.TempDir(), nil, slices.Concat(apiextensions.Kinds, admissionregistration.Kinds), func(reader api.Reader, list *catalog.Catalog, server func() *apiserver.Server) admission.Chain {
		log, kinds := slog.New(slog.DiscardHandler), catalog.NewVersions(list)
		w := webhook.New(webhook.Config{Reader: reader, Kinds: kinds, Authorizer: everything{}, Log: log, Clients: client.New(client.Config{Reader: reader, Log: log})})
		p := policy.New(policy.Config{Reader: reader, Kinds: kinds, Authorizer: everything{}, Log: log,
			Merge: func(k *api.Kind, obj runtime.Object, c map[string]any) (runtime.Object, error) {
				return server().Merge(k, obj, c)
			}})
		return admission.Chain{p.Mutating(), w.Mutating(), p.Validating(), w.Validating()}
	})
	var asked atomic.Pointer[admissionv1.AdmissionRequest]
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		asked.Store(review.Request)
		kind := admissionv1.PatchTypeJSONPatch
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true, PatchType: &kind,
			Patch: []byte(`[{"op":"add","path":"/data/sails","value":1},{"op":"add","path":"/data/unknown","value":1},{"op":"remove","path":"/data/hulls"}]`)}
		_ = json.NewEncoder(w).Encode(review)
	}))
	defer hook.Close()
	d := h.define(definition(t, boats))
	typed, err := kubernetes.NewForConfig(h.config)
	check(t, err)
	none := registrationv1.SideEffectClassNone
	rule := registrationv1.RuleWithOperations{Operations: []registrationv1.OperationType{"CREATE"}, Rule: registrationv1.Rule{
		APIGroups: []string{"example.com"}, APIVersions: []string{"v2"}, Resources: []string{"boats"}}}
	_, err = typed.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), &registrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "boats"}, Webhooks: []registrationv1.MutatingWebhook{{
			Name: "boats.example.com", SideEffects: &none, AdmissionReviewVersions: []string{"v1"}, Rules: []registrationv1.RuleWithOperations{rule},
			ClientConfig: registrationv1.WebhookClientConfig{URL: &hook.URL, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw})},
		}}}, metav1.CreateOptions{})
	check(t, err)
	match := &registrationv1.MatchResources{ResourceRules: []registrationv1.NamedRuleWithOperations{{RuleWithOperations: rule}}}
	_, err = typed.AdmissionregistrationV1().MutatingAdmissionPolicies().Create(t.Context(), &registrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "name"}, Spec: registrationv1.MutatingAdmissionPolicySpec{MatchConstraints: match, ReinvocationPolicy: "Never",
			Mutations: []registrationv1.Mutation{{PatchType: "ApplyConfiguration", ApplyConfiguration: &registrationv1.ApplyConfiguration{
				Expression: `Object{data: Object.data{name: object.metadata.name + " in " + object.apiVersion}}`}}}}}, metav1.CreateOptions{})
	check(t, err)
	_, err = typed.AdmissionregistrationV1().MutatingAdmissionPolicyBindings().Create(t.Context(), &registrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "name"}, Spec: registrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "name"}}, metav1.CreateOptions{})
	check(t, err)
	made, err := h.of(d, "v1").Create(t.Context(), object(t, "apiVersion: example.com/v1\nkind: Boat\nmetadata: {name: proa}\ndata: {}"), metav1.CreateOptions{})
	check(t, err)
	want := map[string]any{"sails": int64(1), "hulls": int64(2), "name": "proa in example.com/v2"}
	data, _, _ := unstructured.NestedMap(made.Object, "data")
	for key, value := range want {
		if data[key] != value {
			t.Errorf("%s is %v, want %v", key, data[key], value)
		}
	}
	if len(data) != len(want) || made.GetAPIVersion() != "example.com/v1" {
		t.Errorf("made %v", made.Object)
	}
	if q := asked.Load(); q == nil || q.Kind.Version != "v2" || q.RequestKind.Version != "v1" {
		t.Errorf("asked %+v", q)
	}
}
