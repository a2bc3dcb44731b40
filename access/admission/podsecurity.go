package admission

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psaconfig "k8s.io/pod-security-admission/admission/api"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// podSecurity judges pods by the level their namespace's labels ask for (privileged when it
// has none). Pods are refused; templates of pods only warned about.
type podSecurity struct {
	env       Env
	evaluator policy.Evaluator
	defaults  psa.Policy
	exempt    psaconfig.PodSecurityExemptions
}

func newPodSecurity(env Env) (*podSecurity, error) {
	e, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("pod security checks: %w", err)
	}
	defaults, err := psaconfig.ToPolicy(env.Settings.PodSecurity.Defaults)
	if err != nil {
		return nil, fmt.Errorf("pod security defaults: %w", err)
	}
	return &podSecurity{env: env, evaluator: e, defaults: defaults, exempt: env.Settings.PodSecurity.Exemptions}, nil
}

// exemption is by what a write is exempt from judgement, as the audit log names it; empty: it is not.
func (p *podSecurity) exemption(a *Attributes, spec *corev1.PodSpec) string {
	switch {
	case slices.Contains(p.exempt.Namespaces, a.Namespace):
		return "namespace"
	case slices.Contains(p.exempt.Usernames, a.User.Name):
		return "user"
	case spec.RuntimeClassName != nil && slices.Contains(p.exempt.RuntimeClasses, *spec.RuntimeClassName):
		return "runtimeClass"
	}
	return ""
}

func (p *podSecurity) Validate(_ context.Context, a *Attributes) error {
	if a.Operation != Create && a.Operation != Update {
		return nil
	}
	if a.Kind.GroupResource() == namespaces && a.Subresource == "" {
		return p.namespace(a)
	}
	meta, spec, isPod := judged(a)
	if spec == nil {
		return nil
	}
	if by := p.exemption(a, spec); by != "" {
		a.annotate(psa.AuditAnnotationPrefix+psa.ExemptionReasonAnnotationKey, by)
		return nil
	}
	obj, ok := p.env.Reader.Get(namespaces, "", a.Namespace)
	if !ok {
		return nil // NamespaceLifecycle has refused it
	}
	pol, _ := psa.PolicyToEvaluate(obj.GetLabels(), p.defaults)
	if isPod {
		a.annotate(psa.AuditAnnotationPrefix+psa.EnforcedPolicyAnnotationKey, pol.Enforce.String())
	}
	if pol.FullyPrivileged() {
		return nil
	}
	if a.Annotate != nil {
		if r := policy.AggregateCheckResults(p.evaluator.EvaluatePod(pol.Audit, meta, spec)); !r.Allowed {
			a.annotate(psa.AuditAnnotationPrefix+psa.AuditViolationsAnnotationKey, fmt.Sprintf("would violate PodSecurity %q: %s", pol.Audit.String(), r.ForbiddenDetail()))
		}
	}
	if isPod {
		if r := policy.AggregateCheckResults(p.evaluator.EvaluatePod(pol.Enforce, meta, spec)); !r.Allowed {
			return forbidden(a, fmt.Errorf("violates PodSecurity %q: %s", pol.Enforce.String(), r.ForbiddenDetail()))
		}
	}
	if isPod && pol.Enforce.Equivalent(&pol.Warn) || a.Warn == nil {
		return nil
	}
	if r := policy.AggregateCheckResults(p.evaluator.EvaluatePod(pol.Warn, meta, spec)); !r.Allowed {
		a.Warn(fmt.Sprintf("would violate PodSecurity %q: %s", pol.Warn.String(), r.ForbiddenDetail()))
	}
	return nil
}

// namespace refuses labels that mean nothing.
func (p *podSecurity) namespace(a *Attributes) error {
	ns, ok := a.Object.(*corev1.Namespace)
	if !ok {
		return nil
	}
	_, problems := psa.PolicyToEvaluate(ns.Labels, p.defaults)
	if len(problems) == 0 {
		return nil
	}
	if a.Old != nil {
		if _, before := psa.PolicyToEvaluate(a.Old.GetLabels(), p.defaults); len(before) > 0 {
			return nil // it was wrong before: do not stand in the way of other changes
		}
	}
	return forbidden(a, errors.New(problems.ToAggregate().Error()))
}

// judged gives the pod, or the template in a workload.
func judged(a *Attributes) (*metav1.ObjectMeta, *corev1.PodSpec, bool) {
	if a.Subresource != "" && a.Subresource != "ephemeralcontainers" && a.Subresource != "resize" {
		return nil, nil, false
	}
	template := func(t *corev1.PodTemplateSpec) (*metav1.ObjectMeta, *corev1.PodSpec, bool) {
		return &t.ObjectMeta, &t.Spec, false
	}
	switch o := a.Object.(type) {
	case *corev1.Pod:
		if old, ok := a.Old.(*corev1.Pod); ok && !significant(o, old) {
			return nil, nil, false
		}
		return &o.ObjectMeta, &o.Spec, true
	case *corev1.PodTemplate:
		return template(&o.Template)
	case *corev1.ReplicationController:
		if o.Spec.Template != nil {
			return template(o.Spec.Template)
		}
	case *appsv1.Deployment:
		return template(&o.Spec.Template)
	case *appsv1.ReplicaSet:
		return template(&o.Spec.Template)
	case *appsv1.StatefulSet:
		return template(&o.Spec.Template)
	case *appsv1.DaemonSet:
		return template(&o.Spec.Template)
	case *batchv1.Job:
		return template(&o.Spec.Template)
	case *batchv1.CronJob:
		return template(&o.Spec.JobTemplate.Spec.Template)
	}
	return nil, nil, false
}

// significant: a pod that runs is judged again only when what is judged changed; a status
// write must not fail because the namespace became stricter.
func significant(pod, old *corev1.Pod) bool {
	if len(pod.Spec.EphemeralContainers) != len(old.Spec.EphemeralContainers) {
		return true
	}
	for _, pair := range [][2][]corev1.Container{{pod.Spec.Containers, old.Spec.Containers}, {pod.Spec.InitContainers, old.Spec.InitContainers}} {
		if len(pair[0]) != len(pair[1]) {
			return true
		}
		for i := range pair[0] {
			if pair[0][i].Image != pair[1][i].Image || !reflect.DeepEqual(pair[0][i].SecurityContext, pair[1][i].SecurityContext) {
				return true
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if !reflect.DeepEqual(pod.Spec.EphemeralContainers[i], old.Spec.EphemeralContainers[i]) {
			return true
		}
	}
	for key, value := range pod.Annotations { // AppArmor and seccomp lived there
		if old.Annotations[key] != value {
			return true
		}
	}
	return false
}
