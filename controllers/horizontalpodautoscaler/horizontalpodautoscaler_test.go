package horizontalpodautoscaler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func pod(i int, ready bool, age time.Duration) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	began := metav1.NewTime(start.Add(-age))
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i), Namespace: "ns", Labels: map[string]string{"a": "b"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")},
		}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &began, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: status, LastTransitionTime: began},
		}},
	}
}

// The cases of the documented algorithm: ratio, tolerance, pods without figures, pods that start.
func TestPerPod(t *testing.T) {
	for name, c := range map[string]struct {
		used    []int64 // thousandths of a CPU; -1: not known
		unready int     // of the pods, the last that are starting
		target  int32
		want    int32
	}{
		"double":                         {used: []int64{1000, 1000, 1000}, target: 50, want: 6},
		"half":                           {used: []int64{250, 250, 250, 250}, target: 50, want: 2},
		"within tolerance":               {used: []int64{520, 540}, target: 50, want: 2},
		"missing hold back up":           {used: []int64{1000, 1000, -1, -1}, target: 50, want: 4},
		"missing hold back down":         {used: []int64{100, 100, -1, -1}, target: 50, want: 4},
		"missing slow down":              {used: []int64{0, 0, 0, -1}, target: 100, want: 1},
		"starting count as idle":         {used: []int64{1000, 1000, 1000, 1000}, unready: 2, target: 50, want: 4},
		"starting are not counted below": {used: []int64{200, 200, 0}, unready: 1, target: 50, want: 1},
	} {
		samples := map[string]sample{}
		var pods []*corev1.Pod
		for i, used := range c.used {
			if used >= 0 {
				samples[fmt.Sprint(i)] = sample{used, start, time.Minute}
			}
			ready := i < len(c.used)-c.unready
			age := time.Hour
			if !ready {
				age = time.Minute
			}
			pods = append(pods, pod(i, ready, age))
		}
		requests, err := requestsOf(pods, "", corev1.ResourceCPU)
		if err != nil {
			t.Fatal(err)
		}
		g := group(pods, samples, true, start)
		got, err := perPod(int32(len(pods)), g, samples, tolerances(nil), func(s map[string]sample) (float64, error) {
			r, _, _, err := utilization(s, requests, c.target)
			return r, err
		}, func(p *corev1.Pod) int64 { return requests[p.Name] * int64(max(100, c.target)) / 100 })
		if err != nil || got != c.want {
			t.Errorf("%s: %d replicas (%v), want %d", name, got, err, c.want)
		}
	}
}

func TestLimits(t *testing.T) {
	window, least := int32(60), autoscalingv2.MinChangePolicySelect
	never := autoscalingv2.DisabledPolicySelect
	for name, c := range map[string]struct {
		h             history
		current, wish int32
		b             *autoscalingv2.HorizontalPodAutoscalerBehavior
		want          int32
		calm, bound   string
	}{
		"doubles":           {current: 10, wish: 100, want: 20, calm: "ReadyForNewScale", bound: "ScaleUpLimit"},
		"four at least":     {current: 1, wish: 100, want: 5, calm: "ReadyForNewScale", bound: "ScaleUpLimit"},
		"bounded":           {current: 40, wish: 100, want: 50, calm: "ReadyForNewScale", bound: "TooManyReplicas"},
		"at least two":      {current: 4, wish: 0, want: 2, calm: "ReadyForNewScale", bound: "TooFewReplicas"},
		"already went up":   {h: history{ups: []change{{4, start.Add(-time.Second)}}}, current: 5, wish: 9, want: 5, calm: "ReadyForNewScale", bound: "ScaleUpLimit"},
		"was higher lately": {h: history{wishes: []change{{8, start.Add(-4 * time.Minute)}}}, current: 9, wish: 3, want: 8, calm: "ScaleDownStabilized", bound: withinRange},
		"long ago":          {h: history{wishes: []change{{8, start.Add(-6 * time.Minute)}}}, current: 9, wish: 3, want: 3, calm: "ReadyForNewScale", bound: withinRange},
		"window up": {
			h: history{wishes: []change{{6, start.Add(-30 * time.Second)}}}, current: 5, wish: 9, want: 6, calm: "ScaleUpStabilized", bound: withinRange,
			b: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window}},
		},
		"slowest policy": {current: 20, wish: 2, want: 19, calm: "ReadyForNewScale", bound: "ScaleDownLimit",
			b: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{SelectPolicy: &least, Policies: []autoscalingv2.HPAScalingPolicy{
				{Type: autoscalingv2.PodsScalingPolicy, Value: 1, PeriodSeconds: 60}, {Type: autoscalingv2.PercentScalingPolicy, Value: 50, PeriodSeconds: 60},
			}}}},
		"never down": {current: 20, wish: 2, want: 20, calm: "ReadyForNewScale", bound: "ScaleDownLimit",
			b: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{SelectPolicy: &never}}},
	} {
		calm := c.h.stabilized(c.current, c.wish, c.b, start)
		bound := c.h.limited(c.current, calm.n, 2, 50, c.b, start)
		if bound.n != c.want || calm.reason != c.calm || bound.reason != c.bound {
			t.Errorf("%s: %d %s %s, want %d %s %s", name, bound.n, calm.reason, bound.reason, c.want, c.calm, c.bound)
		}
	}
}

// world answers what the API would.
type world struct {
	remote
	scale autoscalingv1.Scale
	used  int64
	err   error
}

func (w *world) Scale(context.Context, string, autoscalingv2.CrossVersionObjectReference) (*autoscalingv1.Scale, error) {
	return w.scale.DeepCopy(), nil
}

func (w *world) SetScale(_ context.Context, _ string, _ autoscalingv2.CrossVersionObjectReference, s *autoscalingv1.Scale) error {
	w.scale = *s
	return nil
}

func (w *world) Usage(context.Context, string, labels.Selector, corev1.ResourceName, string) (map[string]sample, error) {
	return map[string]sample{"0": {w.used, start, time.Minute}, "1": {w.used, start, time.Minute}}, w.err
}

func TestLook(t *testing.T) {
	goal := int32(50)
	a := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "a"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 10, Metrics: []autoscalingv2.MetricSpec{{
			Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{AverageUtilization: &goal},
			},
		}}},
	}
	client := fake.NewClientset()
	factory := informers.New(client, nil)
	c, err := New(loop.Deps{
		Client: client, Informers: factory, Log: slog.New(slog.DiscardHandler), Clock: clocktesting.NewFakeClock(start),
		Recorder: func(string) record.EventRecorder { return &record.FakeRecorder{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := factory.Core().V1().Pods().Informer().GetStore().Add(pod(i, true, time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{used: 1000, scale: autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 2}, Status: autoscalingv1.ScaleStatus{Replicas: 2, Selector: "a=b"}}}
	c.remote = w
	if err := c.look(t.Context(), a); err != nil || w.scale.Spec.Replicas != 4 {
		t.Fatalf("%v, scaled to %d, want 4", err, w.scale.Spec.Replicas)
	}
	m := a.Status.CurrentMetrics[0].Resource.Current
	if *m.AverageUtilization != 100 || m.AverageValue.String() != "1" || a.Status.DesiredReplicas != 4 || a.Status.CurrentReplicas != 2 {
		t.Errorf("%+v", a.Status)
	}
	reasons := func() string {
		out := ""
		for _, cond := range a.Status.Conditions {
			out += string(cond.Type) + "=" + string(cond.Status) + " " + cond.Reason + "; "
		}
		return out
	}
	if got := reasons(); got != "AbleToScale=True SucceededRescale; ScalingActive=True ValidMetricFound; ScalingLimited=False DesiredWithinRange; " {
		t.Error(got)
	}
	w.err = errors.New("no figures")
	if err := c.look(t.Context(), a); err == nil {
		t.Error("no error without figures")
	}
	if got := reasons(); got != "AbleToScale=True SucceededGetScale; ScalingActive=False FailedGetResourceMetric; ScalingLimited=False DesiredWithinRange; " {
		t.Error(got)
	}
}
