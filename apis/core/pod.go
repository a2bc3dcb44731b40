package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Pods is the kind Pod. Defaults, validation and columns are in the pod_*.go files.
var Pods = api.Define(api.Resource[*corev1.Pod]{
	Version: "v1", Kind: "Pod", Plural: "pods", Short: []string{"po"}, Categories: []string{"all"}, Namespaced: true,
	UnconditionalUpdate: true,
	HasStatus:           true,
	Unowned:             map[string][]string{"status": {"spec", "metadata.deletionTimestamp", "metadata.ownerReferences"}},
	HasGeneration:       true,
	Default:             defaultPod,
	PrepareCreate:       preparePod,
	Validate:            validatePod,
	Warnings: func(p, _ *corev1.Pod) []string {
		return sourceWarnings(p.Spec.Volumes, field.NewPath("spec", "volumes"))
	},
	ValidateCreate: func(p *corev1.Pod) field.ErrorList {
		errs := tokensNeedAccount(&p.Spec)
		if len(p.Spec.EphemeralContainers) > 0 {
			errs = append(errs, field.Forbidden(field.NewPath("spec", "ephemeralContainers"), "cannot be set on create"))
		}
		return errs
	},
	ValidateUpdate: validatePodUpdate,
	ValidateStatus: validatePodStatus,
	PrepareStatus:  preparePodStatus,
	BeforeDelete:   podGrace,
	Updates: []api.Update[*corev1.Pod]{
		{Name: "ephemeralcontainers", Apply: applyEphemeralContainers, Validate: validateEphemeralUpdate},
		{Name: "resize", Apply: applyResize, Validate: validateResize},
	},
	Actions: []api.Action{
		{Name: "binding", Version: "v1", Kind: "Binding", New: func() runtime.Object { return &corev1.Binding{} }, Do: bindPod},
		{Name: "eviction", Group: "policy", Version: "v1", Kind: "Eviction", Alike: []string{"v1beta1"}, New: func() runtime.Object { return &policyv1.Eviction{} }, Do: evictPod},
	},
	Connects: podConnects,
	Columns:  podColumns,
	Ended:    podEnded,
	Indexes:  []string{"spec.nodeName"},
	Fields: map[string]func(*corev1.Pod) string{
		"spec.nodeName":            func(p *corev1.Pod) string { return p.Spec.NodeName },
		"spec.restartPolicy":       func(p *corev1.Pod) string { return string(p.Spec.RestartPolicy) },
		"spec.schedulerName":       func(p *corev1.Pod) string { return p.Spec.SchedulerName },
		"spec.serviceAccountName":  func(p *corev1.Pod) string { return p.Spec.ServiceAccountName },
		"spec.hostNetwork":         func(p *corev1.Pod) string { return boolText(p.Spec.HostNetwork) },
		"status.phase":             func(p *corev1.Pod) string { return string(p.Status.Phase) },
		"status.podIP":             podIPField,
		"status.podIPs":            podIPField,
		"status.nominatedNodeName": func(p *corev1.Pod) string { return p.Status.NominatedNodeName },
	},
})

func podIPField(p *corev1.Pod) string {
	if len(p.Status.PodIPs) > 0 {
		return p.Status.PodIPs[0].IP
	}
	return p.Status.PodIP
}

// preparePod gives a new pod the status it starts with.
func preparePod(_ context.Context, p *corev1.Pod) {
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: QOSClass(p)}
	if t := p.Spec.TerminationGracePeriodSeconds; t != nil && *t < 0 {
		p.Spec.TerminationGracePeriodSeconds = ptr(int64(1))
	}
	if len(p.Spec.SchedulingGates) > 0 {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates", LastTransitionTime: metav1.Now(),
		}}
	}
	mergeMatchLabelKeys(p)
}

// tokensNeedAccount: without an account there is none whose token a volume could hold.
func tokensNeedAccount(s *corev1.PodSpec) field.ErrorList {
	if s.ServiceAccountName != "" {
		return nil
	}
	var errs field.ErrorList
	for i := range s.Volumes {
		p := s.Volumes[i].Projected
		for j := 0; p != nil && j < len(p.Sources); j++ {
			if p.Sources[j].ServiceAccountToken != nil {
				errs = append(errs, field.Forbidden(field.NewPath("spec", "volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken"),
					"must not be specified when serviceAccountName is not set"))
			}
		}
	}
	return errs
}

// preparePodStatus keeps what a status write may not take away.
func preparePodStatus(p, old *corev1.Pod) {
	if p.Status.QOSClass == "" {
		p.Status.QOSClass = old.Status.QOSClass
	}
}

// addresses keeps the older field for one address and the list, of which it is the first, the same. Of two that differ
// the older field counts.
func addresses[A any](one *string, list *[]A, ip func(*A) *string) {
	if *one != "" && (len(*list) == 0 || *ip(&(*list)[0]) != *one) {
		*list = make([]A, 1)
		*ip(&(*list)[0]) = *one
	}
	if *one = ""; len(*list) > 0 {
		*one = *ip(&(*list)[0])
	}
}

// podGrace decides how long a deleted pod may still run: as asked, else as its spec says,
// but not at all when nothing of it runs.
func podGrace(p *corev1.Pod, options *metav1.DeleteOptions) bool {
	period := int64(0)
	switch {
	case options.GracePeriodSeconds != nil:
		period = *options.GracePeriodSeconds
	case p.Spec.TerminationGracePeriodSeconds != nil:
		period = *p.Spec.TerminationGracePeriodSeconds
	}
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		period = 0
	}
	if period < 0 {
		period = 1
	}
	options.GracePeriodSeconds = &period
	return period > 0
}

// mergeMatchLabelKeys turns matchLabelKeys and mismatchLabelKeys into requirements on the
// values that the pod's own labels have now.
func mergeMatchLabelKeys(p *corev1.Pod) {
	add := func(s *metav1.LabelSelector, keys []string, op metav1.LabelSelectorOperator) {
		if s == nil {
			return
		}
		for _, key := range keys {
			if value, ok := p.Labels[key]; ok {
				s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: []string{value}})
			}
		}
	}
	for i := range p.Spec.TopologySpreadConstraints {
		c := &p.Spec.TopologySpreadConstraints[i]
		add(c.LabelSelector, c.MatchLabelKeys, metav1.LabelSelectorOpIn)
	}
	for _, t := range affinityTerms(p.Spec.Affinity) {
		add(t.LabelSelector, t.MatchLabelKeys, metav1.LabelSelectorOpIn)
		add(t.LabelSelector, t.MismatchLabelKeys, metav1.LabelSelectorOpNotIn)
	}
}

// affinityTerms are all terms of a pod's affinity and anti-affinity to other pods.
func affinityTerms(a *corev1.Affinity) []*corev1.PodAffinityTerm {
	var terms []*corev1.PodAffinityTerm
	collect := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		for i := range required {
			terms = append(terms, &required[i])
		}
		for i := range preferred {
			terms = append(terms, &preferred[i].PodAffinityTerm)
		}
	}
	if a == nil {
		return nil
	}
	if x := a.PodAffinity; x != nil {
		collect(x.RequiredDuringSchedulingIgnoredDuringExecution, x.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if x := a.PodAntiAffinity; x != nil {
		collect(x.RequiredDuringSchedulingIgnoredDuringExecution, x.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return terms
}
