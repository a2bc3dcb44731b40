package autoscaling

import (
	"encoding/json"
	"maps"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

type autoscalerV1 = *autoscalingv1.HorizontalPodAutoscaler

// Where v1 keeps, as JSON, what it has no field for.
const (
	metricsAnnotation        = "autoscaling.alpha.kubernetes.io/metrics"
	currentMetricsAnnotation = "autoscaling.alpha.kubernetes.io/current-metrics"
	conditionsAnnotation     = "autoscaling.alpha.kubernetes.io/conditions"
	behaviorAnnotation       = "autoscaling.alpha.kubernetes.io/behavior"
)

var ownAnnotations = []string{metricsAnnotation, currentMetricsAnnotation, conditionsAnnotation, behaviorAnnotation}

var autoscalersV1 = api.Define(api.Resource[autoscalerV1]{
	Group: autoscalingv1.GroupName, Version: "v1", Kind: "HorizontalPodAutoscaler", Plural: "horizontalpodautoscalers",
	Short: []string{"hpa"}, Categories: []string{"all"}, Namespaced: true,
	Storage:             &api.Conversion[autoscalerV1]{Group: autoscalingv2.GroupName, Version: "v2", From: fromV2, To: func(a autoscalerV1) api.Object { return toV2(a) }},
	UnconditionalUpdate: true,
	HasGeneration:       true,
	HasStatus:           true,
	Default:             func(a autoscalerV1) { fill(&a.Spec.MinReplicas, defaultMinReplicas) },
	Validate:            func(a autoscalerV1) field.ErrorList { return validateAutoscaler(toV2(a)) },
	ValidateStatus: func(a, _ autoscalerV1) field.ErrorList {
		return validateStatus(&toV2(a).Status, field.NewPath("status"))
	},
	Columns: autoscalerColumns(toV2),
})

// toV2 gives the stored form. Annotations that are not what they should be are dropped, as
// if they had not been given.
func toV2(a autoscalerV1) autoscaler {
	out := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: a.ObjectMeta,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(a.Spec.ScaleTargetRef),
			MinReplicas:    a.Spec.MinReplicas, MaxReplicas: a.Spec.MaxReplicas,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			ObservedGeneration: a.Status.ObservedGeneration, LastScaleTime: a.Status.LastScaleTime,
			CurrentReplicas: a.Status.CurrentReplicas, DesiredReplicas: a.Status.DesiredReplicas,
		},
	}
	out.APIVersion, out.Kind = autoscalingv2.SchemeGroupVersion.String(), "HorizontalPodAutoscaler"
	out.Annotations = maps.Clone(a.Annotations)
	for _, m := range held[[]autoscalingv1.MetricSpec](out.Annotations, metricsAnnotation) {
		out.Spec.Metrics = append(out.Spec.Metrics, metricToV2(&m))
	}
	if percent := a.Spec.TargetCPUUtilizationPercentage; percent != nil {
		out.Spec.Metrics = append(out.Spec.Metrics, cpuUtilization(*percent))
	}
	for _, m := range held[[]autoscalingv1.MetricStatus](out.Annotations, currentMetricsAnnotation) {
		out.Status.CurrentMetrics = append(out.Status.CurrentMetrics, statusToV2(&m))
	}
	if percent := a.Status.CurrentCPUUtilizationPercentage; percent != nil && len(out.Status.CurrentMetrics) == 0 {
		out.Status.CurrentMetrics = append(out.Status.CurrentMetrics, cpuStatus(*percent))
	}
	for _, c := range held[[]autoscalingv1.HorizontalPodAutoscalerCondition](out.Annotations, conditionsAnnotation) {
		out.Status.Conditions = append(out.Status.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
			Type: autoscalingv2.HorizontalPodAutoscalerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime,
			Reason: c.Reason, Message: c.Message, ObservedGeneration: c.ObservedGeneration,
		})
	}
	out.Spec.Behavior = held[*autoscalingv2.HorizontalPodAutoscalerBehavior](out.Annotations, behaviorAnnotation)
	for _, name := range ownAnnotations {
		delete(out.Annotations, name)
	}
	if len(out.Annotations) == 0 {
		out.Annotations = nil
	}
	defaultAutoscaler(out)
	return out
}

// held decodes an annotation; the zero value when there is none.
func held[T any](annotations map[string]string, name string) T {
	var value T
	text, ok := annotations[name]
	if !ok || json.Unmarshal([]byte(text), &value) != nil {
		var zero T
		return zero
	}
	return value
}

// fromV2 gives the old form: the first utilization of the CPU has a field, the rest is
// written into annotations.
func fromV2(o api.Object) autoscalerV1 {
	a := o.(autoscaler)
	out := &autoscalingv1.HorizontalPodAutoscaler{
		ObjectMeta: a.ObjectMeta,
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(a.Spec.ScaleTargetRef),
			MinReplicas:    a.Spec.MinReplicas, MaxReplicas: a.Spec.MaxReplicas,
		},
		Status: autoscalingv1.HorizontalPodAutoscalerStatus{
			ObservedGeneration: a.Status.ObservedGeneration, LastScaleTime: a.Status.LastScaleTime,
			CurrentReplicas: a.Status.CurrentReplicas, DesiredReplicas: a.Status.DesiredReplicas,
		},
	}
	out.APIVersion, out.Kind = autoscalingv1.SchemeGroupVersion.String(), "HorizontalPodAutoscaler"
	extra := map[string]string{}
	hold(extra, metricsAnnotation, restOfMetrics(a, out))
	hold(extra, currentMetricsAnnotation, restOfStatus(a, out))
	var conditions []autoscalingv1.HorizontalPodAutoscalerCondition
	for _, c := range a.Status.Conditions {
		conditions = append(conditions, autoscalingv1.HorizontalPodAutoscalerCondition{
			Type: autoscalingv1.HorizontalPodAutoscalerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime,
			Reason: c.Reason, Message: c.Message, ObservedGeneration: c.ObservedGeneration,
		})
	}
	hold(extra, conditionsAnnotation, conditions)
	if a.Spec.Behavior != nil {
		write(extra, behaviorAnnotation, a.Spec.Behavior)
	}
	if len(extra) > 0 {
		maps.Copy(extra, a.Annotations)
		out.Annotations = extra
	}
	return out
}

// hold writes a list into an annotation, if there is anything in it.
func hold[T any](annotations map[string]string, name string, list []T) {
	if len(list) > 0 {
		write(annotations, name, list)
	}
}

func write(annotations map[string]string, name string, value any) {
	if raw, err := json.Marshal(value); err == nil { // these types always encode
		annotations[name] = string(raw)
	}
}

func restOfMetrics(a autoscaler, out autoscalerV1) []autoscalingv1.MetricSpec {
	var rest []autoscalingv1.MetricSpec
	for i := range a.Spec.Metrics {
		m := &a.Spec.Metrics[i]
		if r := m.Resource; out.Spec.TargetCPUUtilizationPercentage == nil && r != nil && r.Name == corev1.ResourceCPU && r.Target.AverageUtilization != nil {
			percent := *r.Target.AverageUtilization
			out.Spec.TargetCPUUtilizationPercentage = &percent
			continue
		}
		rest = append(rest, metricFromV2(m))
	}
	return rest
}

// restOfStatus copies the CPU's utilization and keeps it in the list as well: the
// annotation alone has its average value.
func restOfStatus(a autoscaler, out autoscalerV1) []autoscalingv1.MetricStatus {
	var rest []autoscalingv1.MetricStatus
	for i := range a.Status.CurrentMetrics {
		m := &a.Status.CurrentMetrics[i]
		if r := m.Resource; out.Status.CurrentCPUUtilizationPercentage == nil && r != nil && r.Name == corev1.ResourceCPU && r.Current.AverageUtilization != nil {
			percent := *r.Current.AverageUtilization
			out.Status.CurrentCPUUtilizationPercentage = &percent
		}
		rest = append(rest, statusFromV2(m))
	}
	return rest
}
