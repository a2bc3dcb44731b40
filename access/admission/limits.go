package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
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

func (l *limitRanger) Mutate(_ context.Context, a *Attributes) error {
	pod := podOf(a, Create)
	if pod == nil {
		return nil
	}
	for _, r := range l.ranges(a.Namespace) {
		for i := range r.Spec.Limits {
			if item := &r.Spec.Limits[i]; item.Type == corev1.LimitTypeContainer {
				for j := range pod.Spec.InitContainers {
					fill(&pod.Spec.InitContainers[j].Resources, item)
				}
				for j := range pod.Spec.Containers {
					fill(&pod.Spec.Containers[j].Resources, item)
				}
			}
		}
	}
	return nil
}

func fill(r *corev1.ResourceRequirements, item *corev1.LimitRangeItem) {
	merge := func(to *corev1.ResourceList, from corev1.ResourceList) {
		for name, q := range from {
			if _, ok := (*to)[name]; ok {
				continue
			}
			if *to == nil {
				*to = corev1.ResourceList{}
			}
			(*to)[name] = q.DeepCopy()
		}
	}
	merge(&r.Limits, item.Default)
	merge(&r.Requests, item.DefaultRequest)
}

func (l *limitRanger) Validate(_ context.Context, a *Attributes) error {
	if a.Operation == Update && a.Kind.GroupResource() == pods {
		return nil
	}
	var problems []error
	switch o := a.Object.(type) {
	case *corev1.Pod:
		if podOf(a, Create) == nil {
			return nil
		}
		for _, r := range l.ranges(a.Namespace) {
			problems = append(problems, podBounds(o, r)...)
		}
	case *corev1.PersistentVolumeClaim:
		if a.Subresource != "" {
			return nil
		}
		for _, r := range l.ranges(a.Namespace) {
			for i := range r.Spec.Limits {
				if item := &r.Spec.Limits[i]; item.Type == corev1.LimitTypePersistentVolumeClaim {
					problems = append(problems, bounds(item, o.Spec.Resources.Requests, nil, true)...)
				}
			}
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return forbidden(a, joinErrors(problems))
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
			for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
				for _, c := range list {
					problems = append(problems, bounds(item, c.Resources.Requests, c.Resources.Limits, false)...)
				}
			}
		case corev1.LimitTypePod:
			problems = append(problems, bounds(item, total(pod, false), total(pod, true), false)...)
		}
	}
	return problems
}

// total adds the containers up; init containers run alone, so the largest counts.
func total(pod *corev1.Pod, limits bool) corev1.ResourceList {
	pick := func(c *corev1.Container) corev1.ResourceList {
		if limits {
			return c.Resources.Limits
		}
		return c.Resources.Requests
	}
	sum := corev1.ResourceList{}
	for i := range pod.Spec.Containers {
		for name, q := range pick(&pod.Spec.Containers[i]) {
			s := sum[name]
			s.Add(q)
			sum[name] = s
		}
	}
	for i := range pod.Spec.InitContainers {
		for name, q := range pick(&pod.Spec.InitContainers[i]) {
			if s, ok := sum[name]; !ok || s.Cmp(q) < 0 {
				sum[name] = q.DeepCopy()
			}
		}
	}
	return sum
}

func bounds(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList, claim bool) []error {
	var problems []error
	say := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for name, least := range item.Min {
		q, ok := requests[name]
		if !ok {
			say("minimum %s usage per %s is %s.  No request is specified", name, item.Type, least.String())
		} else if q.Cmp(least) < 0 {
			say("minimum %s usage per %s is %s, but request is %s", name, item.Type, least.String(), q.String())
		}
		if limit, ok := limits[name]; ok && limit.Cmp(least) < 0 {
			say("minimum %s usage per %s is %s, but limit is %s", name, item.Type, least.String(), limit.String())
		}
	}
	for name, most := range item.Max {
		if claim {
			if q, ok := requests[name]; ok && q.Cmp(most) > 0 {
				say("maximum %s usage per %s is %s, but request is %s", name, item.Type, most.String(), q.String())
			}
			continue
		}
		limit, ok := limits[name]
		if !ok {
			say("maximum %s usage per %s is %s.  No limit is specified", name, item.Type, most.String())
		} else if limit.Cmp(most) > 0 {
			say("maximum %s usage per %s is %s, but limit is %s", name, item.Type, most.String(), limit.String())
		}
		if q, ok := requests[name]; ok && q.Cmp(most) > 0 {
			say("maximum %s usage per %s is %s, but request is %s", name, item.Type, most.String(), q.String())
		}
	}
	for name, ratio := range item.MaxLimitRequestRatio {
		problems = append(problems, ratioBound(item, name, ratio, requests, limits)...)
	}
	return problems
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
