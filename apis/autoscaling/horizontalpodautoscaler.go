package autoscaling

import (
	"fmt"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

type autoscaler = *autoscalingv2.HorizontalPodAutoscaler

// What an autoscaler does unless told otherwise.
const (
	defaultMinReplicas    = int32(1)
	defaultCPUUtilization = int32(80)
	defaultPeriod         = int32(15)
	defaultUpPods         = int32(4)
	defaultPercent        = int32(100)
)

var (
	specDoc   = autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()
	statusDoc = autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()
)

var autoscalers = api.Define(api.Resource[autoscaler]{
	Group: autoscalingv2.GroupName, Version: "v2", Kind: "HorizontalPodAutoscaler", Plural: "horizontalpodautoscalers",
	Short: []string{"hpa"}, Categories: []string{"all"}, Namespaced: true,
	Earlier: []api.Earlier[autoscaler]{{
		Version: "v1",
		New:     func() api.Object { return &autoscalingv1.HorizontalPodAutoscaler{} },
		To:      func(o api.Object) (autoscaler, error) { return toV2(o.(autoscalerV1)), nil },
	}},
	UnconditionalUpdate: true,
	HasGeneration:       true,
	HasStatus:           true,
	Default:             defaultAutoscaler,
	Validate:            validateAutoscaler,
	ValidateStatus:      func(a, _ autoscaler) field.ErrorList { return validateStatus(&a.Status, field.NewPath("status")) },
	Columns:             autoscalerColumns(func(a autoscaler) autoscaler { return a }),
})

// autoscalerColumns are the same for each version, seen as v2.
func autoscalerColumns[T api.Object](view func(T) autoscaler) []api.Column[T] {
	return []api.Column[T]{
		api.Text("Reference", specDoc["scaleTargetRef"], func(o T) string {
			ref := view(o).Spec.ScaleTargetRef
			return ref.Kind + "/" + ref.Name
		}),
		api.Text("Targets", specDoc["metrics"], func(o T) string { return targets(view(o)) }),
		api.Text("MinPods", specDoc["minReplicas"], func(o T) string {
			if n := view(o).Spec.MinReplicas; n != nil {
				return fmt.Sprint(*n)
			}
			return "<unset>"
		}),
		{Name: "MaxPods", Description: specDoc["maxReplicas"], Value: func(o T) any { return int64(view(o).Spec.MaxReplicas) }},
		{Name: "Replicas", Description: statusDoc["currentReplicas"], Value: func(o T) any { return int64(view(o).Status.CurrentReplicas) }},
		api.Age[T](),
	}
}

func defaultAutoscaler(a autoscaler) {
	fill(&a.Spec.MinReplicas, defaultMinReplicas)
	if len(a.Spec.Metrics) == 0 {
		a.Spec.Metrics = []autoscalingv2.MetricSpec{cpuUtilization(defaultCPUUtilization)}
	}
	if b := a.Spec.Behavior; b != nil {
		b.ScaleUp = defaultRules(b.ScaleUp,
			autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: defaultUpPods, PeriodSeconds: defaultPeriod},
			autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: defaultPercent, PeriodSeconds: defaultPeriod})
		fill(&b.ScaleUp.StabilizationWindowSeconds, 0)
		b.ScaleDown = defaultRules(b.ScaleDown,
			autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: defaultPercent, PeriodSeconds: defaultPeriod})
	}
}

func defaultRules(r *autoscalingv2.HPAScalingRules, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	if r == nil {
		r = &autoscalingv2.HPAScalingRules{}
	}
	fill(&r.SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if r.Policies == nil {
		r.Policies = policies
	}
	return r
}

func cpuUtilization(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{
		Type: autoscalingv2.ResourceMetricSourceType,
		Resource: &autoscalingv2.ResourceMetricSource{
			Name:   corev1.ResourceCPU,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
		},
	}
}

const (
	unknown      = "<unknown>"
	shownMetrics = 2
)

// targets shows each metric as what is and what shall be: "cpu: 20%/80%".
func targets(a autoscaler) string {
	var list []string
	for i := range a.Spec.Metrics {
		var status autoscalingv2.MetricStatus
		if i < len(a.Status.CurrentMetrics) {
			status = a.Status.CurrentMetrics[i]
		}
		list = append(list, target(&a.Spec.Metrics[i], &status))
	}
	switch {
	case len(list) == 0:
		return "<none>"
	case len(list) > shownMetrics:
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:shownMetrics], ", "), len(list)-shownMetrics)
	}
	return strings.Join(list, ", ")
}

// target finds the part of a metric that its type names, in spec and status alike.
func target(m *autoscalingv2.MetricSpec, s *autoscalingv2.MetricStatus) string {
	var now *autoscalingv2.MetricValueStatus
	switch {
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		if s.Resource != nil {
			now = &s.Resource.Current
		}
		return string(m.Resource.Name) + ": " + ofResource(now, &m.Resource.Target)
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		if s.ContainerResource != nil {
			now = &s.ContainerResource.Current
		}
		return string(m.ContainerResource.Name) + ": " + ofResource(now, &m.ContainerResource.Target)
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		if s.Pods != nil {
			now = &s.Pods.Current
		}
		return average(now) + "/" + m.Pods.Target.AverageValue.String()
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		if s.Object != nil {
			now = &s.Object.Current
		}
		return ofValue(now, &m.Object.Target)
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		if s.External != nil {
			now = &s.External.Current
		}
		return ofValue(now, &m.External.Target)
	}
	return "<unknown type>"
}

func average(now *autoscalingv2.MetricValueStatus) string {
	if now == nil || now.AverageValue == nil {
		return unknown
	}
	return now.AverageValue.String()
}

func ofResource(now *autoscalingv2.MetricValueStatus, t *autoscalingv2.MetricTarget) string {
	if t.AverageValue != nil {
		return average(now) + "/" + t.AverageValue.String()
	}
	is, shall := unknown, "<auto>"
	if now != nil && now.AverageUtilization != nil {
		is = fmt.Sprintf("%d%%", *now.AverageUtilization)
	}
	if t.AverageUtilization != nil {
		shall = fmt.Sprintf("%d%%", *t.AverageUtilization)
	}
	return is + "/" + shall
}

func ofValue(now *autoscalingv2.MetricValueStatus, t *autoscalingv2.MetricTarget) string {
	if t.AverageValue != nil {
		return average(now) + "/" + t.AverageValue.String() + " (avg)"
	}
	is := unknown
	if now != nil && now.Value != nil {
		is = now.Value.String()
	}
	return is + "/" + t.Value.String()
}

func validateStatus(s *autoscalingv2.HorizontalPodAutoscalerStatus, path *field.Path) field.ErrorList {
	errs := check.NotNegative(path.Child("currentReplicas"), int64(s.CurrentReplicas))
	return append(errs, check.NotNegative(path.Child("desiredReplicas"), int64(s.DesiredReplicas))...)
}
