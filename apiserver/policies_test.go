package apiserver_test

import (
	"log/slog"
	"testing"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/policy"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
)

func newGoverned(t *testing.T) *house {
	t.Helper()
	var h *house
	h = newHouseWith(t, func(reader api.Reader, z *rules, list *catalog.Catalog) []admission.Step {
		p := policy.New(policy.Config{
			Reader: reader, Kinds: catalog.NewVersions(list), Authorizer: z, Log: slog.New(slog.DiscardHandler),
			Merge: func(k *api.Kind, obj runtime.Object, configuration map[string]any) (runtime.Object, error) {
				return h.server.Merge(k, obj, configuration)
			},
		})
		return []admission.Step{p.Mutating(), p.Parameters(), p.Validating()}
	})
	return h
}

func matches(group, resource string, ops ...registrationv1.OperationType) *registrationv1.MatchResources {
	return &registrationv1.MatchResources{ResourceRules: []registrationv1.NamedRuleWithOperations{{RuleWithOperations: rule(group, "v1", resource, ops...)[0]}}}
}

// validate stores a policy with a binding of the same name.
func (h *house) validate(t *testing.T, name string, spec registrationv1.ValidatingAdmissionPolicySpec, bind registrationv1.ValidatingAdmissionPolicyBindingSpec) {
	t.Helper()
	c := h.typed("root").AdmissionregistrationV1()
	meta := metav1.ObjectMeta{Name: name}
	if _, err := c.ValidatingAdmissionPolicies().Create(t.Context(), &registrationv1.ValidatingAdmissionPolicy{ObjectMeta: meta, Spec: spec}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bind.PolicyName = name
	if bind.ValidationActions == nil {
		bind.ValidationActions = []registrationv1.ValidationAction{registrationv1.Deny}
	}
	if _, err := c.ValidatingAdmissionPolicyBindings().Create(t.Context(), &registrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: meta, Spec: bind}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (h *house) mutate(t *testing.T, name string, spec registrationv1.MutatingAdmissionPolicySpec, bind registrationv1.MutatingAdmissionPolicyBindingSpec) {
	t.Helper()
	c := h.typed("root").AdmissionregistrationV1()
	meta := metav1.ObjectMeta{Name: name}
	if spec.ReinvocationPolicy == "" {
		spec.ReinvocationPolicy = registrationv1.NeverReinvocationPolicy
	}
	if _, err := c.MutatingAdmissionPolicies().Create(t.Context(), &registrationv1.MutatingAdmissionPolicy{ObjectMeta: meta, Spec: spec}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bind.PolicyName = name
	if _, err := c.MutatingAdmissionPolicyBindings().Create(t.Context(), &registrationv1.MutatingAdmissionPolicyBinding{ObjectMeta: meta, Spec: bind}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func sized(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "x"}}}}}}
}

func TestPolicyDenies(t *testing.T) {
	h := newGoverned(t)
	h.validate(t, "replicas", registrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: matches("apps", "deployments", "CREATE", "UPDATE"),
		Variables:        []registrationv1.Variable{{Name: "replicas", Expression: "object.spec.replicas"}, {Name: "odd", Expression: "variables.replicas % 2 == 1"}},
		Validations: []registrationv1.Validation{
			{Expression: "variables.replicas > 1", MessageExpression: "'wants more than 1, has ' + string(variables.replicas)"},
			{Expression: "variables.odd", Message: "must be odd"},
			{Expression: "namespaceObject.metadata.name == request.namespace && authorizer.group('apps').resource('deployments').namespace('x').check('delete').allowed()"},
		},
	}, registrationv1.ValidatingAdmissionPolicyBindingSpec{})
	c := h.typed("root").AppsV1().Deployments("default")
	_, err := c.Create(t.Context(), sized("a", 1), metav1.CreateOptions{})
	wantError(t, err, `deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'replicas' with binding 'replicas' denied request: wants more than 1, has 1`)
	if !apierrors.IsInvalid(err) {
		t.Errorf("reason is %v", apierrors.ReasonForError(err))
	}
	_, err = c.Create(t.Context(), sized("a", 2), metav1.CreateOptions{})
	wantError(t, err, "denied request: must be odd")
	if _, err := c.Create(t.Context(), sized("a", 3), metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	other := h.typed("alice:admins")
	h.rules.set(func(a *access.Attributes) bool { return a.Verb == "create" })
	_, err = other.AppsV1().Deployments("default").Create(t.Context(), sized("b", 3), metav1.CreateOptions{})
	wantError(t, err, "failed expression: namespaceObject.metadata.name == request.namespace")
}

func TestPolicyParams(t *testing.T) {
	h := newGoverned(t)
	deny := registrationv1.DenyAction
	h.validate(t, "params", registrationv1.ValidatingAdmissionPolicySpec{
		ParamKind:        &registrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"},
		MatchConstraints: matches("apps", "deployments", "CREATE"),
		Validations:      []registrationv1.Validation{{Expression: "string(object.spec.replicas) == params.data.replicas", Message: "not as many"}},
	}, registrationv1.ValidatingAdmissionPolicyBindingSpec{ParamRef: &registrationv1.ParamRef{Name: "limit", ParameterNotFoundAction: &deny}})
	c := h.typed("root")
	_, err := c.AppsV1().Deployments("default").Create(t.Context(), sized("a", 1), metav1.CreateOptions{})
	wantError(t, err, "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction")
	limit := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "limit"}, Data: map[string]string{"replicas": "1"}}
	if _, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), limit, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AppsV1().Deployments("default").Create(t.Context(), sized("a", 1), metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	_, err = c.AppsV1().Deployments("default").Create(t.Context(), sized("b", 2), metav1.CreateOptions{})
	wantError(t, err, "not as many")
}

func TestPolicyChanges(t *testing.T) {
	h := newGoverned(t)
	h.mutate(t, "apply", registrationv1.MutatingAdmissionPolicySpec{
		MatchConstraints: matches("apps", "deployments", "CREATE"),
		Variables:        []registrationv1.Variable{{Name: "name", Expression: "object.metadata.name"}},
		Mutations: []registrationv1.Mutation{
			{PatchType: registrationv1.PatchTypeApplyConfiguration, ApplyConfiguration: &registrationv1.ApplyConfiguration{
				Expression: `Object{metadata: Object.metadata{annotations: {"by": variables.name}}, spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
					initContainers: [Object.spec.template.spec.initContainers{name: "first", image: "y"}]}}}}`}},
			{PatchType: registrationv1.PatchTypeJSONPatch, JSONPatch: &registrationv1.JSONPatch{
				Expression: `[JSONPatch{op: "add", path: "/metadata/labels", value: {"a": "b"}}, JSONPatch{op: "replace", path: "/spec/replicas", value: 4}]`}},
		},
	}, registrationv1.MutatingAdmissionPolicyBindingSpec{})
	c := h.typed("root").AppsV1().Deployments("default")
	made, err := c.Create(t.Context(), sized("a", 1), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first := made.Spec.Template.Spec.InitContainers
	if made.Annotations["by"] != "a" || made.Labels["a"] != "b" || *made.Spec.Replicas != 4 || len(first) != 1 || first[0].ImagePullPolicy != corev1.PullAlways {
		t.Errorf("got %v %v %d %v", made.Annotations, made.Labels, *made.Spec.Replicas, first)
	}
	h.mutate(t, "atomic", registrationv1.MutatingAdmissionPolicySpec{
		MatchConstraints: matches("apps", "deployments", "CREATE"),
		Mutations: []registrationv1.Mutation{{PatchType: registrationv1.PatchTypeApplyConfiguration, ApplyConfiguration: &registrationv1.ApplyConfiguration{
			Expression: `Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {"x": "y"}}}}`}}},
	}, registrationv1.MutatingAdmissionPolicyBindingSpec{})
	_, err = c.Create(t.Context(), sized("b", 1), metav1.CreateOptions{})
	wantError(t, err, "policy 'atomic' with binding 'atomic' denied request: error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector")
}

func TestPoliciesThatAreRefused(t *testing.T) {
	h := newGoverned(t)
	c := h.typed("root").AdmissionregistrationV1()
	bad := &registrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "bad"}, Spec: registrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: matches("", "pods", "CREATE"),
		Validations:      []registrationv1.Validation{{Expression: "objct.spec"}, {Expression: "1"}, {Expression: "params.a == 1"}},
	}}
	_, err := c.ValidatingAdmissionPolicies().Create(t.Context(), bad, metav1.CreateOptions{})
	wantError(t, err, `spec.validations[0].expression: Invalid value: "objct.spec": compilation failed: ERROR: <input>:1:1: undeclared reference to 'objct'`,
		`spec.validations[1].expression: Invalid value: "1": must evaluate to bool but got int`, "undeclared reference to 'params'")
}

// Who may not read parameters cannot have a policy read them for him.
func TestPolicyParametersAreReadable(t *testing.T) {
	h := newGoverned(t)
	h.rules.set(func(a *access.Attributes) bool { return a.Group == "admissionregistration.k8s.io" })
	c := h.typed("alice").AdmissionregistrationV1()
	p := &registrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: registrationv1.ValidatingAdmissionPolicySpec{
		ParamKind: &registrationv1.ParamKind{APIVersion: "v1", Kind: "Secret"}, MatchConstraints: matches("", "configmaps", "CREATE"),
		Validations: []registrationv1.Validation{{Expression: "params.data.a == 'b'"}}}}
	_, err := c.ValidatingAdmissionPolicies().Create(t.Context(), p, metav1.CreateOptions{})
	wantError(t, err, `spec.paramKind: Forbidden: user alice must have "get" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)`)
	if _, err := h.typed("root").AdmissionregistrationV1().ValidatingAdmissionPolicies().Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	deny := registrationv1.DenyAction
	b := &registrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: registrationv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: "p", ParamRef: &registrationv1.ParamRef{Name: "s", Namespace: "default", ParameterNotFoundAction: &deny}, ValidationActions: []registrationv1.ValidationAction{registrationv1.Warn}}}
	_, err = c.ValidatingAdmissionPolicyBindings().Create(t.Context(), b, metav1.CreateOptions{})
	wantError(t, err, `spec.paramRef: Forbidden: user alice does not have "get" permission on the object referenced by paramRef`)
}
