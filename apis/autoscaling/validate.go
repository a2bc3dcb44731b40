package autoscaling

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/internal/check"
)

const (
	longestPeriod        = int32(1800) // seconds
	longestStabilization = int32(3600)
	leastReplicas        = int32(0)
)

func validateAutoscaler(a autoscaler) field.ErrorList {
	path, s := field.NewPath("spec"), &a.Spec
	var errs field.ErrorList
	if s.MinReplicas != nil && *s.MinReplicas < leastReplicas {
		errs = append(errs, field.Invalid(path.Child("minReplicas"), *s.MinReplicas, fmt.Sprintf("must be greater than or equal to %d", leastReplicas)))
	}
	most := path.Child("maxReplicas")
	switch {
	case s.MaxReplicas == 0:
		errs = append(errs, field.Required(most, "must be set and greater than 0"))
	case s.MaxReplicas < 0:
		errs = append(errs, field.Invalid(most, s.MaxReplicas, "must be greater than or equal to 1"))
	}
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		errs = append(errs, field.Invalid(most, s.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	errs = append(errs, validateScaled(s.ScaleTargetRef, path.Child("scaleTargetRef"))...)
	errs = append(errs, validateMetrics(s.Metrics, path.Child("metrics"), s.MinReplicas)...)
	if s.Behavior != nil {
		errs = append(errs, validateRules(s.Behavior.ScaleUp, path.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateRules(s.Behavior.ScaleDown, path.Child("behavior", "scaleDown"))...)
	}
	return errs
}

func validateScaled(r autoscalingv2.CrossVersionObjectReference, path *field.Path) field.ErrorList {
	errs := check.NeededSegment(path.Child("kind"), r.Kind)
	errs = append(errs, check.NeededSegment(path.Child("name"), r.Name)...)
	if _, err := schema.ParseGroupVersion(r.APIVersion); err != nil {
		errs = append(errs, field.Invalid(path.Child("apiVersion"), r.APIVersion, err.Error()))
	}
	return errs
}

func validateRules(r *autoscalingv2.HPAScalingRules, path *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if n := r.StabilizationWindowSeconds; n != nil {
		at := path.Child("stabilizationWindowSeconds")
		if *n < 0 {
			errs = append(errs, field.Invalid(at, *n, "must be greater than or equal to zero"))
		}
		if *n > longestStabilization {
			errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %v", longestStabilization)))
		}
	}
	if r.SelectPolicy != nil {
		errs = append(errs, check.OneOf(path.Child("selectPolicy"), *r.SelectPolicy,
			autoscalingv2.DisabledPolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect)...)
	}
	policies := path.Child("policies")
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(policies, "must specify at least one Policy"))
	}
	for i, p := range r.Policies {
		errs = append(errs, validateScalingPolicy(p, policies.Index(i))...)
	}
	if r.Tolerance != nil && r.Tolerance.Sign() < 0 {
		errs = append(errs, field.Invalid(path.Child("tolerance"), r.Tolerance.String(), "must be greater than or equal to 0"))
	}
	return errs
}

func validateScalingPolicy(p autoscalingv2.HPAScalingPolicy, path *field.Path) field.ErrorList {
	errs := check.OneOf(path.Child("type"), p.Type, autoscalingv2.PercentScalingPolicy, autoscalingv2.PodsScalingPolicy)
	if p.Value <= 0 {
		errs = append(errs, field.Invalid(path.Child("value"), p.Value, "must be greater than zero"))
	}
	if p.PeriodSeconds <= 0 {
		errs = append(errs, field.Invalid(path.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero"))
	}
	if p.PeriodSeconds > longestPeriod {
		errs = append(errs, field.Invalid(path.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %v", longestPeriod)))
	}
	return errs
}

func validateMetrics(list []autoscalingv2.MetricSpec, path *field.Path, least *int32) field.ErrorList {
	var errs field.ErrorList
	beyond := false // a metric that can be there without a pod
	for i := range list {
		errs = append(errs, validateMetric(&list[i], path.Index(i))...)
		beyond = beyond || list[i].Type == autoscalingv2.ObjectMetricSourceType || list[i].Type == autoscalingv2.ExternalMetricSourceType
	}
	if least != nil && *least == 0 && !beyond {
		errs = append(errs, field.Forbidden(path, "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	return errs
}

// metricSource is one of the parts of a metric, of which its type wants exactly one.
type metricSource struct {
	kind  autoscalingv2.MetricSourceType
	name  string
	given bool
	check func(*field.Path) field.ErrorList
}

func sourcesOf(m *autoscalingv2.MetricSpec) []metricSource {
	return []metricSource{
		{autoscalingv2.ObjectMetricSourceType, "object", m.Object != nil, func(p *field.Path) field.ErrorList {
			errs := validateScaled(m.Object.DescribedObject, p.Child("describedObject"))
			errs = append(errs, validateIdentifier(&m.Object.Metric, p.Child("metric"))...)
			errs = append(errs, validateTarget(&m.Object.Target, p.Child("target"))...)
			if m.Object.Target.Value == nil && m.Object.Target.AverageValue == nil {
				errs = append(errs, field.Required(p.Child("target", "averageValue"), "must set either a target value or averageValue"))
			}
			return errs
		}},
		{autoscalingv2.PodsMetricSourceType, "pods", m.Pods != nil, func(p *field.Path) field.ErrorList {
			errs := validateIdentifier(&m.Pods.Metric, p.Child("metric"))
			errs = append(errs, validateTarget(&m.Pods.Target, p.Child("target"))...)
			if v := m.Pods.Target.AverageValue; v == nil || v.Sign() != 1 {
				errs = append(errs, field.Required(p.Child("target", "averageValue"), "must specify a positive target averageValue"))
			}
			return errs
		}},
		{autoscalingv2.ResourceMetricSourceType, "resource", m.Resource != nil, func(p *field.Path) field.ErrorList {
			errs := check.Required(p.Child("name"), string(m.Resource.Name), "must specify a resource name")
			return append(errs, validateUse(&m.Resource.Target, p)...)
		}},
		{autoscalingv2.ExternalMetricSourceType, "external", m.External != nil, func(p *field.Path) field.ErrorList {
			return validateExternal(m.External, p)
		}},
		{autoscalingv2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil, func(p *field.Path) field.ErrorList {
			errs := check.Required(p.Child("name"), string(m.ContainerResource.Name), "must specify a resource name")
			errs = append(errs, check.Required(p.Child("container"), m.ContainerResource.Container, "must specify a container")...)
			return append(errs, validateUse(&m.ContainerResource.Target, p)...)
		}},
	}
}

func validateMetric(m *autoscalingv2.MetricSpec, path *field.Path) field.ErrorList {
	if m.Type == "" {
		return field.ErrorList{field.Required(path.Child("type"), "must specify a metric source type")}
	}
	errs := check.OneOf(path.Child("type"), m.Type, autoscalingv2.ContainerResourceMetricSourceType, autoscalingv2.ExternalMetricSourceType,
		autoscalingv2.ObjectMetricSourceType, autoscalingv2.PodsMetricSourceType, autoscalingv2.ResourceMetricSourceType)
	if len(errs) > 0 {
		return errs
	}
	for _, s := range sourcesOf(m) {
		at := path.Child(s.name)
		switch {
		case s.given && s.kind != m.Type:
			errs = append(errs, field.Forbidden(at, "must populate the given metric source only"))
		case !s.given && s.kind == m.Type:
			errs = append(errs, field.Required(at, "must populate information for the given metric source"))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	for _, s := range sourcesOf(m) {
		if s.given {
			errs = append(errs, s.check(path.Child(s.name))...)
		}
	}
	return errs
}

func validateExternal(s *autoscalingv2.ExternalMetricSource, path *field.Path) field.ErrorList {
	errs := validateIdentifier(&s.Metric, path.Child("metric"))
	errs = append(errs, validateTarget(&s.Target, path.Child("target"))...)
	switch {
	case s.Target.Value == nil && s.Target.AverageValue == nil:
		errs = append(errs, field.Required(path.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
	case s.Target.Value != nil && s.Target.AverageValue != nil:
		errs = append(errs, field.Forbidden(path.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
	}
	return errs
}

// validateUse is for what pods are measured by: a share of what they asked for, or an amount.
func validateUse(t *autoscalingv2.MetricTarget, path *field.Path) field.ErrorList {
	errs := validateTarget(t, path.Child("target"))
	switch {
	case t.AverageUtilization == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(path.Child("target", "averageUtilization"), "must set either a target raw value or a target utilization"))
	case t.AverageUtilization != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(path.Child("target", "averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}

func validateTarget(t *autoscalingv2.MetricTarget, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("type"), t.Type, "must specify a metric target type")
	switch t.Type {
	case autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType:
	default:
		errs = append(errs, field.Invalid(path.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	errs = append(errs, positive(t.Value, path.Child("value"))...)
	errs = append(errs, positive(t.AverageValue, path.Child("averageValue"))...)
	if n := t.AverageUtilization; n != nil && *n < 1 {
		errs = append(errs, field.Invalid(path.Child("averageUtilization"), *n, "must be greater than 0"))
	}
	return errs
}

func positive(q *resource.Quantity, path *field.Path) field.ErrorList {
	if q == nil || q.Sign() == 1 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, q.String(), "must be positive")}
}

func validateIdentifier(m *autoscalingv2.MetricIdentifier, path *field.Path) field.ErrorList {
	if m.Name == "" {
		return field.ErrorList{field.Required(path.Child("name"), "must specify a metric name")}
	}
	return check.Segment(path.Child("name"), m.Name)
}
