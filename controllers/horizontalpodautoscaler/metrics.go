package horizontalpodautoscaler

import (
	"context"
	"errors"
	"fmt"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// target is what one metric is judged on.
type target struct {
	namespace string
	current   int32 // replicas asked for
	status    int32 // replicas there
	selector  labels.Selector
	pods      []*corev1.Pod
	tolerance tolerance
	now       time.Time
}

// result is one metric's say.
type result struct {
	n      int32
	name   string // as events call it
	status autoscalingv2.MetricStatus
}

// compute asks each metric and takes the greatest answer. Metrics that fail do not keep
// the others from scaling up; down it goes only when all are known.
func (c *Controller) compute(ctx context.Context, a *autoscalingv2.HorizontalPodAutoscaler, scale *autoscalingv1.Scale, now time.Time) (int32, string, error) {
	if scale.Status.Selector == "" {
		c.recorder.Event(a, corev1.EventTypeWarning, "SelectorRequired", "selector is required")
		c.condition(a, autoscalingv2.ScalingActive, corev1.ConditionFalse, "InvalidSelector", "the HPA target's scale is missing a selector")
		return 0, "", errors.New("selector is required")
	}
	selector, err := labels.Parse(scale.Status.Selector)
	if err != nil {
		err = fmt.Errorf("couldn't convert selector into a corresponding internal selector object: %w", err)
		c.recorder.Event(a, corev1.EventTypeWarning, "InvalidSelector", err.Error())
		c.condition(a, autoscalingv2.ScalingActive, corev1.ConditionFalse, "InvalidSelector", "%v", err)
		return 0, "", err
	}
	pods, err := c.pods.Pods(a.Namespace).List(selector)
	if err != nil {
		return 0, "", err
	}
	t := target{a.Namespace, scale.Spec.Replicas, scale.Status.Replicas, selector, pods, tolerances(a.Spec.Behavior), now}
	best, failed := result{n: -1}, 0
	var first error
	var firstReason string
	var seen []autoscalingv2.MetricStatus
	for i := range a.Spec.Metrics {
		r, reason, err := c.metric(ctx, &a.Spec.Metrics[i], t)
		if err != nil {
			c.recorder.Event(a, corev1.EventTypeWarning, reason, err.Error())
			if failed++; first == nil {
				first, firstReason = err, reason
			}
			continue
		}
		seen = append(seen, r.status)
		if r.n > best.n {
			best = r
		}
	}
	a.Status.CurrentMetrics = seen
	if failed > 0 && (failed == len(a.Spec.Metrics) || best.n < t.current) {
		c.condition(a, autoscalingv2.ScalingActive, corev1.ConditionFalse, firstReason, "the HPA was unable to compute the replica count: %v", first)
		return 0, "", fmt.Errorf("invalid metrics (%d invalid out of %d), first error is: %w", failed, len(a.Spec.Metrics), first)
	}
	c.condition(a, autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from %s", best.name)
	why := best.name + " above target"
	if best.n < t.current {
		why = "All metrics below target"
	}
	return max(best.n, 0), why, nil
}

// metric asks one metric; reason is what an error is called.
func (c *Controller) metric(ctx context.Context, m *autoscalingv2.MetricSpec, t target) (r result, reason string, err error) {
	r.status.Type = m.Type
	switch {
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		var current autoscalingv2.MetricValueStatus
		r.n, r.name, current, err = c.resource(ctx, m.Resource.Name, "", m.Resource.Target, t)
		r.status.Resource = &autoscalingv2.ResourceMetricStatus{Name: m.Resource.Name, Current: current}
		return r, "FailedGetResourceMetric", wrap(err, "failed to get %s", m.Resource.Name)
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		var current autoscalingv2.MetricValueStatus
		s := m.ContainerResource
		r.n, r.name, current, err = c.resource(ctx, s.Name, s.Container, s.Target, t)
		r.status.ContainerResource = &autoscalingv2.ContainerResourceMetricStatus{Name: s.Name, Container: s.Container, Current: current}
		return r, "FailedGetContainerResourceMetric", wrap(err, "failed to get %s", s.Name)
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		err = c.podsMetric(ctx, m.Pods, t, &r)
		return r, "FailedGetPodsMetric", wrap(err, "failed to get pods metric value")
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		err = c.objectMetric(ctx, m.Object, t, &r)
		return r, "FailedGetObjectMetric", wrap(err, "failed to get object metric value")
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		err = c.externalMetric(ctx, m.External, t, &r)
		return r, "FailedGetExternalMetric", wrap(err, "failed to get %s external metric value", m.External.Metric.Name)
	}
	return r, "InvalidMetricSourceType", fmt.Errorf("unknown metric source type %q", m.Type)
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

func (c *Controller) resource(ctx context.Context, name corev1.ResourceName, container string, want autoscalingv2.MetricTarget, t target) (int32, string, autoscalingv2.MetricValueStatus, error) {
	var status autoscalingv2.MetricValueStatus
	samples, err := c.remote.Usage(ctx, t.namespace, t.selector, name, container)
	if err != nil {
		return 0, "", status, fmt.Errorf("unable to get metrics for resource %s: %w", name, err)
	}
	text := string(name) + " resource"
	if container != "" {
		text = string(name) + " container resource"
	}
	known := make(map[string]sample, len(samples))
	for k, s := range samples {
		known[k] = s
	}
	g := group(t.pods, known, name == corev1.ResourceCPU, t.now)
	if want.AverageValue != nil {
		goal := want.AverageValue.MilliValue()
		n, err := perPod(t.current, g, known, t.tolerance,
			func(s map[string]sample) (float64, error) { r, _ := average(s, goal); return r, nil },
			func(*corev1.Pod) int64 { return goal })
		if err == nil && len(samples) > 0 {
			_, value := average(samples, goal)
			status.AverageValue = resource.NewMilliQuantity(value, resource.DecimalSI)
		}
		return n, text, status, err
	}
	if want.AverageUtilization == nil {
		return 0, "", status, errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	requests, err := requestsOf(t.pods, container, name)
	if err != nil {
		return 0, "", status, err
	}
	goal := *want.AverageUtilization
	var percent *int32
	var value int64
	n, err := perPod(t.current, g, known, t.tolerance, func(s map[string]sample) (float64, error) {
		r, p, v, err := utilization(s, requests, goal)
		if percent == nil {
			percent, value = &p, v
		}
		return r, err
	}, func(pod *corev1.Pod) int64 { return requests[pod.Name] * int64(max(100, goal)) / 100 })
	if err != nil {
		return 0, "", status, err
	}
	status = autoscalingv2.MetricValueStatus{AverageUtilization: percent, AverageValue: resource.NewMilliQuantity(value, resource.DecimalSI)}
	return n, text + " utilization (percentage of request)", status, nil
}

func (c *Controller) podsMetric(ctx context.Context, m *autoscalingv2.PodsMetricSource, t target, r *result) error {
	if m.Target.AverageValue == nil {
		return errors.New("pods metrics need a target of averageValue")
	}
	samples, err := c.remote.PodMetric(ctx, t.namespace, t.selector, m.Metric)
	if err != nil {
		return fmt.Errorf("unable to get metric %s: %w", m.Metric.Name, err)
	}
	goal := m.Target.AverageValue.MilliValue()
	g := group(t.pods, samples, false, t.now)
	status := autoscalingv2.MetricValueStatus{}
	if len(samples) > 0 {
		_, value := average(samples, goal)
		status.AverageValue = resource.NewMilliQuantity(value, resource.DecimalSI)
	}
	r.name = "pods metric " + m.Metric.Name
	r.status.Pods = &autoscalingv2.PodsMetricStatus{Metric: m.Metric, Current: status}
	r.n, err = perPod(t.current, g, samples, t.tolerance,
		func(s map[string]sample) (float64, error) { r, _ := average(s, goal); return r, nil },
		func(*corev1.Pod) int64 { return goal })
	return err
}

func (c *Controller) objectMetric(ctx context.Context, m *autoscalingv2.ObjectMetricSource, t target, r *result) error {
	value, err := c.remote.ObjectMetric(ctx, t.namespace, m.DescribedObject, m.Metric)
	if err != nil {
		return fmt.Errorf("unable to get metric %s: %s on %s %s/%w", m.Metric.Name, m.DescribedObject.Kind, t.namespace, m.DescribedObject.Name, err)
	}
	r.name = fmt.Sprintf("%s metric %s", m.DescribedObject.Kind, m.Metric.Name)
	r.status.Object = &autoscalingv2.ObjectMetricStatus{Metric: m.Metric, DescribedObject: m.DescribedObject}
	return figure(value, m.Target, t, r, &r.status.Object.Current)
}

func (c *Controller) externalMetric(ctx context.Context, m *autoscalingv2.ExternalMetricSource, t target, r *result) error {
	values, err := c.remote.External(ctx, t.namespace, m.Metric)
	if err != nil {
		return fmt.Errorf("unable to get external metric %s/%s/%s: %w", t.namespace, m.Metric.Name, metav1.FormatLabelSelector(m.Metric.Selector), err)
	}
	var total int64
	for _, v := range values {
		total += v
	}
	r.name = fmt.Sprintf("external metric %s(%s)", m.Metric.Name, metav1.FormatLabelSelector(m.Metric.Selector))
	r.status.External = &autoscalingv2.ExternalMetricStatus{Metric: m.Metric}
	return figure(total, m.Target, t, r, &r.status.External.Current)
}

// figure is for metrics that are one number for all pods.
func figure(value int64, want autoscalingv2.MetricTarget, t target, r *result, status *autoscalingv2.MetricValueStatus) error {
	switch {
	case want.AverageValue != nil && want.AverageValue.MilliValue() > 0:
		var each int64
		r.n, each = shared(t.status, value, want.AverageValue.MilliValue(), t.tolerance)
		status.AverageValue = resource.NewMilliQuantity(each, resource.DecimalSI)
	case want.Value != nil && want.Value.MilliValue() > 0:
		ready := 0
		for _, pod := range t.pods {
			if readyNow(pod) {
				ready++
			}
		}
		r.n = whole(t.current, value, want.Value.MilliValue(), ready, t.tolerance)
		status.Value = resource.NewMilliQuantity(value, resource.DecimalSI)
	default:
		return errors.New("neither a value target nor an average value target was set")
	}
	return nil
}

func readyNow(pod *corev1.Pod) bool {
	if pod.Status.Phase != corev1.PodRunning {
		return false
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
