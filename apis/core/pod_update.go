package core

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func int32Text(n int32) string { return strconv.Itoa(int(n)) }

func specDiff(a, b any) string { return diff.Diff(a, b) }

const podImmutable = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

// validatePodUpdate allows the few changes that the node can follow.
func validatePodUpdate(p, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateMirrorUpdate(p, old)
	if bad := sameContainers(p, old, path); len(bad) > 0 {
		return append(errs, bad...)
	}
	errs = append(errs, validateDeadlineUpdate(p.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds, path.Child("activeDeadlineSeconds"))...)
	errs = append(errs, onlyMoreTolerations(p.Spec.Tolerations, old.Spec.Tolerations, path.Child("tolerations"))...)
	errs = append(errs, onlyFewerGates(p.Spec.SchedulingGates, old.Spec.SchedulingGates, path.Child("schedulingGates"))...)
	munged := p.Spec.DeepCopy()
	for i := range munged.Containers {
		munged.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range munged.InitContainers {
		munged.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	munged.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	munged.Tolerations = old.Spec.Tolerations
	munged.SchedulingGates = old.Spec.SchedulingGates
	if g, was := munged.TerminationGracePeriodSeconds, old.Spec.TerminationGracePeriodSeconds; g != nil && was != nil && *g == 1 && *was < 0 {
		munged.TerminationGracePeriodSeconds = was
	}
	if len(old.Spec.SchedulingGates) > 0 && old.Spec.NodeName == "" {
		errs = append(errs, gatedUpdate(munged, old, path)...)
	}
	if !apiequality.Semantic.DeepEqual(*munged, old.Spec) {
		errs = append(errs, field.Forbidden(path, podImmutable+"\n"+specDiff(old.Spec, *munged)))
	}
	return errs
}

func sameContainers(p, old *corev1.Pod, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	const message = "pod updates may not add or remove containers"
	if len(p.Spec.Containers) != len(old.Spec.Containers) {
		errs = append(errs, field.Forbidden(path.Child("containers"), message))
	}
	if len(p.Spec.InitContainers) != len(old.Spec.InitContainers) {
		errs = append(errs, field.Forbidden(path.Child("initContainers"), message))
	}
	return errs
}

func validateDeadlineUpdate(now, old *int64, path *field.Path) field.ErrorList {
	switch {
	case now != nil && (*now < 0 || *now > maxDeadline):
		return field.ErrorList{field.Invalid(path, *now, deadlineRange)}
	case now != nil && old != nil && *now > *old:
		return field.ErrorList{field.Invalid(path, *now, "must be less than or equal to previous value")}
	case now == nil && old != nil:
		return field.ErrorList{field.Invalid(path, now, "must not update from a positive integer to nil value")}
	}
	return nil
}

// onlyMoreTolerations lets a toleration change in nothing but its seconds.
func onlyMoreTolerations(now, old []corev1.Toleration, path *field.Path) field.ErrorList {
	for _, was := range old {
		was.TolerationSeconds = nil
		if !slices.ContainsFunc(now, func(t corev1.Toleration) bool {
			t.TolerationSeconds = nil
			return t == was
		}) {
			return field.ErrorList{field.Forbidden(path, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil
}

func onlyFewerGates(now, old []corev1.PodSchedulingGate, path *field.Path) field.ErrorList {
	for i, g := range now {
		if !slices.Contains(old, g) {
			return field.ErrorList{field.Forbidden(path.Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", g.Name))}
		}
	}
	return nil
}

// gatedUpdate lets a pod that does not wait for a node yet narrow its choice of nodes; it
// puts back in munged what it allows.
func gatedUpdate(munged *corev1.PodSpec, old *corev1.Pod, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for key, value := range old.Spec.NodeSelector {
		if now, ok := munged.NodeSelector[key]; !ok || now != value {
			errs = append(errs, field.Invalid(path.Child("nodeSelector"), munged.NodeSelector, "only additions are allowed (no mutations or deletions)"))
			break
		}
	}
	munged.NodeSelector = old.Spec.NodeSelector
	was, now := nodeTerms(old.Spec.Affinity), nodeTerms(munged.Affinity)
	if len(was) > 0 {
		errs = append(errs, narrowerTerms(now, was, path.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"))...)
	}
	switch {
	case munged.Affinity != nil && old.Spec.Affinity != nil:
		munged.Affinity.NodeAffinity = old.Spec.Affinity.NodeAffinity
	case munged.Affinity != nil && munged.Affinity.PodAffinity == nil && munged.Affinity.PodAntiAffinity == nil:
		munged.Affinity = nil
	}
	return errs
}

func nodeTerms(a *corev1.Affinity) []corev1.NodeSelectorTerm {
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
}

func narrowerTerms(now, was []corev1.NodeSelectorTerm, path *field.Path) field.ErrorList {
	terms := path.Child("nodeSelectorTerms")
	if len(now) != len(was) {
		return field.ErrorList{field.Invalid(terms, now, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")}
	}
	prefix := func(a, b []corev1.NodeSelectorRequirement) bool {
		return len(a) >= len(b) && apiequality.Semantic.DeepEqual(a[:len(b):len(b)], b[:len(b):len(b)])
	}
	for i := range was {
		if !prefix(now[i].MatchExpressions, was[i].MatchExpressions) || !prefix(now[i].MatchFields, was[i].MatchFields) {
			return field.ErrorList{field.Invalid(terms.Index(i), now[i], "only additions are allowed (no mutations or deletions)")}
		}
	}
	return nil
}

func validatePodStatus(p, old *corev1.Pod) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("status")
	if n := p.Status.NominatedNodeName; n != "" {
		errs = append(errs, dnsSubdomain(n, path.Child("nominatedNodeName"))...)
	}
	for i, ip := range p.Status.PodIPs {
		errs = append(errs, validation.IsValidIPForLegacyField(path.Child("podIPs").Index(i), ip.IP, true, knownIPs(old))...)
	}
	for i, c := range p.Status.Conditions {
		if c.Status != corev1.ConditionTrue && c.Status != corev1.ConditionFalse && c.Status != corev1.ConditionUnknown {
			errs = append(errs, field.NotSupported(path.Child("conditions").Index(i).Child("status"), c.Status,
				[]corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}))
		}
	}
	if old.Status.QOSClass != "" && p.Status.QOSClass != old.Status.QOSClass {
		errs = append(errs, field.Invalid(path.Child("qosClass"), p.Status.QOSClass, "field is immutable"))
	}
	return append(errs, noRestartOfFinished(p, old, path)...)
}

// knownIPs may stay as they were once allowed.
func knownIPs(p *corev1.Pod) []string {
	var list []string
	for _, ip := range p.Status.PodIPs {
		list = append(list, ip.IP)
	}
	return list
}

// noRestartOfFinished keeps containers of pods that never restart from leaving their end.
func noRestartOfFinished(p, old *corev1.Pod, path *field.Path) field.ErrorList {
	if old.Spec.RestartPolicy == corev1.RestartPolicyAlways {
		return nil
	}
	var errs field.ErrorList
	now := map[string]*corev1.ContainerStatus{}
	for i := range p.Status.ContainerStatuses {
		now[p.Status.ContainerStatuses[i].Name] = &p.Status.ContainerStatuses[i]
	}
	for i, was := range old.Status.ContainerStatuses {
		t := was.State.Terminated
		if t == nil || t.ExitCode != 0 && old.Spec.RestartPolicy == corev1.RestartPolicyOnFailure || hasRestartRules(old, was.Name) {
			continue
		}
		if n := now[was.Name]; n != nil && n.State.Terminated == nil {
			errs = append(errs, field.Forbidden(path.Child("containerStatuses").Index(i).Child("state"), "may not be transitioned to non-terminated state"))
		}
	}
	return errs
}

func hasRestartRules(p *corev1.Pod, container string) bool {
	return slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool {
		return c.Name == container && (c.RestartPolicy != nil || len(c.RestartPolicyRules) > 0)
	})
}

// applyEphemeralContainers keeps of a write to pods/ephemeralcontainers just those.
func applyEphemeralContainers(_ context.Context, p, old *corev1.Pod) {
	list := p.Spec.EphemeralContainers
	meta := *p.ObjectMeta.DeepCopy()
	old.DeepCopyInto(p)
	p.ResourceVersion = meta.ResourceVersion
	p.Spec.EphemeralContainers = list
}

func validateEphemeralUpdate(p, old *corev1.Pod) field.ErrorList {
	errs := validatePod(p)
	path := field.NewPath("spec", "ephemeralContainers")
	now := map[string]*corev1.EphemeralContainer{}
	for i := range p.Spec.EphemeralContainers {
		now[p.Spec.EphemeralContainers[i].Name] = &p.Spec.EphemeralContainers[i]
	}
	for i := range old.Spec.EphemeralContainers {
		was := &old.Spec.EphemeralContainers[i]
		n := now[was.Name]
		if n == nil {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", was.Name)))
		} else if !apiequality.Semantic.DeepEqual(*n, *was) {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%s", was.Name, specDiff(*was, *n))))
		}
	}
	return errs
}

// applyResize keeps of a write to pods/resize the resources and the resize policy.
func applyResize(_ context.Context, p, old *corev1.Pod) {
	asked := p.DeepCopy()
	old.DeepCopyInto(p)
	p.ResourceVersion = asked.ResourceVersion
	p.Spec.Resources = asked.Spec.Resources
	copyResources(p.Spec.Containers, asked.Spec.Containers)
	copyResources(p.Spec.InitContainers, asked.Spec.InitContainers)
}

func copyResources(into, from []corev1.Container) {
	byName := map[string]*corev1.Container{}
	for i := range from {
		byName[from[i].Name] = &from[i]
	}
	for i := range into {
		if c := byName[into[i].Name]; c != nil {
			into[i].Resources, into[i].ResizePolicy = c.Resources, c.ResizePolicy
		}
	}
}

func validateResize(p, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := validatePod(p)
	if QOSClass(p) != QOSClass(old) {
		errs = append(errs, field.Invalid(path, QOSClass(old), "Pod QOS Class may not change as a result of resizing"))
	}
	for i := range p.Spec.Containers {
		errs = append(errs, resizable(&p.Spec.Containers[i].Resources, &old.Spec.Containers[i].Resources, path.Child("containers").Index(i).Child("resources"))...)
	}
	for i := range p.Spec.InitContainers {
		now, was, at := &p.Spec.InitContainers[i], &old.Spec.InitContainers[i], path.Child("initContainers").Index(i).Child("resources")
		if !isSidecar(was) && !apiequality.Semantic.DeepEqual(now.Resources, was.Resources) {
			errs = append(errs, field.Forbidden(path.Child("initContainers"), "resources for non-sidecar init containers are immutable"))
			continue
		}
		errs = append(errs, resizable(&now.Resources, &was.Resources, at)...)
	}
	return errs
}

// resizable allows changes of cpu and memory only, and none that takes a bound away.
func resizable(now, old *corev1.ResourceRequirements, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	other := false
	check := func(now, old corev1.ResourceList, which string) {
		removed := false
		for name, q := range old {
			n, ok := now[name]
			if slices.Contains(qosResources, name) {
				removed = removed || !ok
			} else if !ok || n.Cmp(q) != 0 {
				other = true
			}
		}
		if removed {
			errs = append(errs, field.Forbidden(path.Child(which), "resource "+which+" cannot be removed"))
		}
		for name := range now {
			if _, had := old[name]; !had && !slices.Contains(qosResources, name) {
				other = true
			}
		}
	}
	check(now.Requests, old.Requests, "requests")
	check(now.Limits, old.Limits, "limits")
	if other {
		errs = append(errs, field.Forbidden(field.NewPath("spec"), "only cpu and memory resources are mutable"))
	}
	return errs
}
