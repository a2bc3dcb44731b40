package apiserver_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/controllers/policystatus"
	"github.com/proa-dev/proa/internal/informers"
)

// The loop that checks types reads the schemas that the server publishes.
func TestPolicyTypesAreChecked(t *testing.T) {
	h := newGoverned(t)
	client := h.typed("root")
	factory := informers.New(client, nil)
	c, err := policystatus.New(loop.Deps{Client: client, Discovery: client.Discovery(), Informers: factory, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	factory.StartWithContext(ctx)
	go func() { ended <- c.Run(ctx) }()
	defer func() { cancel(); <-ended; factory.Shutdown() }()
	for name, expressions := range map[string][]string{"good": {"object.spec.replicas > 1", "variables.r > 1 && object.metadata.name != ''"}, "bad": {"object.spec.replicas > '1'", "object.spec.replica > 1", "variables.r == 'x'"}} {
		p := &registrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: registrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: matches("apps", "deployments", "CREATE"), Variables: []registrationv1.Variable{{Name: "r", Expression: "object.spec.replicas"}}}}
		for _, e := range expressions {
			p.Spec.Validations = append(p.Spec.Validations, registrationv1.Validation{Expression: e})
		}
		policies := client.AdmissionregistrationV1().ValidatingAdmissionPolicies()
		if _, err := policies.Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(10 * time.Second)
		for p.Status.TypeChecking == nil {
			if time.Now().After(deadline) {
				t.Fatalf("%s is not checked", name)
			}
			time.Sleep(10 * time.Millisecond)
			if p, err = policies.Get(t.Context(), name, metav1.GetOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		warnings := p.Status.TypeChecking.ExpressionWarnings
		if name == "good" {
			if len(warnings) > 0 {
				t.Errorf("warnings for a good policy: %v", warnings)
			}
			continue
		}
		if len(warnings) != 3 || warnings[0].FieldRef != "spec.validations[0].expression" || !strings.Contains(warnings[0].Warning, "found no matching overload for '_>_' applied to '(int, string)'") ||
			!strings.Contains(warnings[1].Warning, "undefined field 'replica'") {
			t.Errorf("warnings: %+v", warnings)
		}
	}
}
