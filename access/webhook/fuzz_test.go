package webhook

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/internal/memory"
	"github.com/proa-dev/proa/access/webhook/client"
	"github.com/proa-dev/proa/apis/admissionregistration"
	"github.com/proa-dev/proa/apis/api"
)

// plain is a world of kinds with one version.
type plain struct{}

func (plain) Equivalents(*api.Kind) []*api.Kind      { return nil }
func (plain) Find(schema.GroupVersionKind) *api.Kind { return nil }
func (plain) Tidy(k *api.Kind, obj api.Object) error { k.Default(obj); return nil }
func (plain) View(_ context.Context, _ *api.Kind, o api.Object) (api.Object, error) {
	return o, nil
}
func (plain) Convert(_ context.Context, o api.Object, _, _ *api.Kind) (api.Object, error) {
	return o, nil
}

var maps = api.Define(api.Resource[*corev1.ConfigMap]{Version: "v1", Kind: "ConfigMap", Plural: "configmaps"})

func attributes() *admission.Attributes {
	return &admission.Attributes{Kind: maps, Name: "m", Operation: admission.Create, User: &api.User{Name: "u"}, Object: &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Name: "m"}, Data: map[string]string{"a": "b"}}}
}

// Whatever a webhook answers, the object stays one of its kind and nothing breaks.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"allowed":true,"patchType":"JSONPatch","patch":"W3sib3AiOiJhZGQiLCJwYXRoIjoiL2RhdGEvYyIsInZhbHVlIjoiZCJ9XQ=="}`), true)
	f.Add([]byte(`{"allowed":false,"status":{"message":"no","code":200}}`), false)
	f.Add([]byte(`{"allowed":true,"patchType":"JSONPatch","patch":"W3sib3AiOiJyZXBsYWNlIiwicGF0aCI6Ii9raW5kIiwidmFsdWUiOiJQb2QifV0="}`), false)
	f.Add([]byte(`null`), true)
	var answer []byte
	beta := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var question struct {
			APIVersion string `json:"apiVersion"`
			Request    struct {
				UID string `json:"uid"`
			} `json:"request"`
		}
		_ = json.NewDecoder(r.Body).Decode(&question)
		response := map[string]any{}
		if json.Unmarshal(answer, &response) == nil && response != nil {
			response["uid"] = question.Request.UID
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": question.APIVersion, "kind": "AdmissionReview", "response": response})
	}))
	f.Cleanup(server.Close)
	none, url := registrationv1.SideEffectClassNone, server.URL
	f.Fuzz(func(t *testing.T, data []byte, old bool) {
		answer, beta = data, old
		version := "v1"
		if beta {
			version = "v1beta1"
		}
		reader := memory.New()
		reader.Put(admissionregistration.MutatingWebhookConfigurations.GroupResource(), &registrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "c"}, Webhooks: []registrationv1.MutatingWebhook{{
				Name: "w", SideEffects: &none, AdmissionReviewVersions: []string{version}, ClientConfig: registrationv1.WebhookClientConfig{URL: &url},
				Rules: []registrationv1.RuleWithOperations{{Operations: []registrationv1.OperationType{"*"}, Rule: registrationv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*"}}}},
			}}})
		log := slog.New(slog.DiscardHandler)
		w := New(Config{Reader: reader, Kinds: plain{}, Log: log, Clients: client.New(client.Config{Reader: reader, Log: log})})
		a := attributes()
		err := admission.Chain{w.Mutating()}.Mutate(t.Context(), a)
		if m, ok := a.Object.(*corev1.ConfigMap); err == nil && (!ok || m.Kind != "ConfigMap") {
			t.Errorf("the object became %#v", a.Object)
		}
	})
}

// What a request pays when no webhook is configured.
func BenchmarkNone(b *testing.B) {
	reader := memory.New()
	log := slog.New(slog.DiscardHandler)
	w := New(Config{Reader: reader, Kinds: plain{}, Log: log, Clients: client.New(client.Config{Reader: reader, Log: log})})
	chain := admission.Chain{w.Mutating(), w.Validating()}
	a := attributes()
	b.ReportAllocs()
	for b.Loop() {
		if chain.Mutate(b.Context(), a) != nil || chain.Validate(b.Context(), a) != nil {
			b.Fatal("refused")
		}
	}
}
