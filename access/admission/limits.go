package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// limitRanger gives containers the requests and limits that their namespace sets by
// default, and refuses what is outside its bounds.
type limitRanger struct{ env Env }

func (l *limitRanger) ranges(namespace string) []*corev1.LimitRange {
	var out []*corev1.LimitRange
	for _, o := range l.env.Reader.List(limitRanges, namespace) {
		if r, ok := o.(*corev1.LimitRange); ok {
			out = append(out, r)
		}
	}
	return out
}

// limitsAnnotation tells on a pod which values it has from here.
const limitsAnnotation = "kubernetes.io/limit-ranger"

func (l *limitRanger) Mutate(_ context.Context, a *Attributes) error {
	pod := podOf(a, Create)
	if pod == nil {
		return nil
	}
	for _, r := range l.ranges(a.Namespace) {
		requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
		for i := range r.Spec.Limits {
			if item := &r.Spec.Limits[i]; item.Type == corev1.LimitTypeContainer {
				fill(requests, item.DefaultRequest)
				fill(limits, item.Default)
			}
		}
		var set []string
		for i := range pod.Spec.Containers {
			set = append(set, giveDefaults(&pod.Spec.Containers[i], "container", requests, limits)...)
		}
		for i := range pod.Spec.InitContainers {
			set = append(set, giveDefaults(&pod.Spec.InitContainers[i], "init container", requests, limits)...)
		}
		if len(set) > 0 {
			if pod.Annotations == nil {
				pod.Annotations = map[string]string{}
			}
			pod.Annotations[limitsAnnotation] = "LimitRanger plugin set: " + strings.Join(set, "; ")
		}
	}
	return nil
}

// giveDefaults fills in what a container does not say, and tells of it.
func giveDefaults(c *corev1.Container, what string, requests, limits corev1.ResourceList) (told []string) {
	for _, part := range []struct {
		name string
		to   *corev1.ResourceList
		from corev1.ResourceList
	}{{"request", &c.Resources.Requests, requests}, {"limit", &c.Resources.Limits, limits}} {
		if *part.to == nil && len(part.from) > 0 {
			*part.to = corev1.ResourceList{}
		}
		if set := fill(*part.to, part.from); len(set) > 0 {
			told = append(told, fmt.Sprintf("%s %s for %s %s", strings.Join(set, ", "), part.name, what, c.Name))
		}
	}
	return told
}

// fill adds what to lacks, and names it in order.
func fill(to, from corev1.ResourceList) (set []string) {
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if _, ok := to[name]; !ok {
			to[name] = from[name].DeepCopy()
			set = append(set, string(name))
		}
	}
	return set
}

func (l *limitRanger) Validate(_ context.Context, a *Attributes) error {
	var check func(*corev1.LimitRange) []error
	switch o := a.Object.(type) {
	case *corev1.Pod:
		resized := a.Operation == Update && a.Subresource == "resize"
		if podOf(a, Create) == nil && !resized || resized && o.DeletionTimestamp != nil {
			return nil
		}
		check = func(r *corev1.LimitRange) []error { return podBounds(o, r) }
	case *corev1.PersistentVolumeClaim:
		if a.Subresource != "" || o.DeletionTimestamp != nil {
			return nil
		}
		check = func(r *corev1.LimitRange) []error { return claimBounds(o, r) }
	default:
		return nil
	}
	for _, r := range l.ranges(a.Namespace) {
		if problems := check(r); len(problems) > 0 {
			return forbidden(a, joinErrors(problems))
		}
	}
	return nil
}

// joinErrors writes one error as itself, several as a list.
func joinErrors(list []error) error {
	if len(list) == 1 {
		return list[0]
	}
	text := ""
	for i, err := range list {
		if i > 0 {
			text += ", "
		}
		text += err.Error()
	}
	return errors.New("[" + text + "]")
}

func podBounds(pod *corev1.Pod, r *corev1.LimitRange) []error {
	var problems []error
	for i := range r.Spec.Limits {
		item := &r.Spec.Limits[i]
		switch item.Type {
		case corev1.LimitTypeContainer:
			for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
				for _, c := range list {
					problems = append(problems, bounds(item, c.Resources.Requests, c.Resources.Limits)...)
				}
			}
		case corev1.LimitTypePod:
			own := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
			problems = append(problems, bounds(item, resourcehelper.PodRequests(pod, own), resourcehelper.PodLimits(pod, own))...)
		}
	}
	return problems
}

// claimBounds looks at what a claim requests: limits say nothing there.
func claimBounds(claim *corev1.PersistentVolumeClaim, r *corev1.LimitRange) []error {
	var problems []error
	for i := range r.Spec.Limits {
		item := &r.Spec.Limits[i]
		if item.Type != corev1.LimitTypePersistentVolumeClaim {
			continue
		}
		requests := claim.Spec.Resources.Requests
		problems = append(problems, bounds(&corev1.LimitRangeItem{Type: item.Type, Min: item.Min}, requests, nil)...)
		for _, name := range slices.Sorted(maps.Keys(item.Max)) {
			switch q, ok := requests[name]; {
			case !ok:
				problems = append(problems, outside("maximum", name, item.Type, item.Max[name], ".  No request is specified"))
			case q.Cmp(item.Max[name]) > 0:
				problems = append(problems, outside("maximum", name, item.Type, item.Max[name], ", but request is "+q.String()))
			}
		}
	}
	return problems
}

// bounds says of each resource at most one thing for each bound.
func bounds(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(item.Min)) {
		least := item.Min[name]
		q, requested := requests[name]
		limit, limited := limits[name]
		switch {
		case !requested:
			problems = append(problems, outside("minimum", name, item.Type, least, ".  No request is specified"))
		case q.Cmp(least) < 0:
			problems = append(problems, outside("minimum", name, item.Type, least, ", but request is "+q.String()))
		case limited && limit.Cmp(least) < 0:
			problems = append(problems, outside("minimum", name, item.Type, least, ", but limit is "+limit.String()))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(item.Max)) {
		most := item.Max[name]
		q, requested := requests[name]
		limit, limited := limits[name]
		switch {
		case !limited:
			problems = append(problems, outside("maximum", name, item.Type, most, ".  No limit is specified"))
		case limit.Cmp(most) > 0:
			problems = append(problems, outside("maximum", name, item.Type, most, ", but limit is "+limit.String()))
		case requested && q.Cmp(most) > 0:
			problems = append(problems, outside("maximum", name, item.Type, most, ", but request is "+q.String()))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(item.MaxLimitRequestRatio)) {
		problems = append(problems, ratioBound(item, name, item.MaxLimitRequestRatio[name], requests, limits)...)
	}
	return problems
}

func outside(bound string, name corev1.ResourceName, of corev1.LimitType, at resource.Quantity, is string) error {
	return fmt.Errorf("%s %s usage per %s is %s%s", bound, name, of, at.String(), is)
}

func ratioBound(item *corev1.LimitRangeItem, name corev1.ResourceName, ratio resource.Quantity, requests, limits corev1.ResourceList) []error {
	q, hasRequest := requests[name]
	limit, hasLimit := limits[name]
	switch {
	case !hasRequest || q.IsZero():
		return []error{fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, item.Type, ratio.String())}
	case !hasLimit || limit.IsZero():
		return []error{fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", name, item.Type, ratio.String())}
	}
	if have := limit.AsApproximateFloat64() / q.AsApproximateFloat64(); have > ratio.AsApproximateFloat64() {
		return []error{fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", name, item.Type, ratio.String(), have)}
	}
	return nil
}
