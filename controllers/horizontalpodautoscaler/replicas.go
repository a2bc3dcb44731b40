package horizontalpodautoscaler

import (
	"errors"
	"fmt"
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// sample is what one pod used, in thousandths of the unit.
type sample struct {
	value  int64
	at     time.Time
	window time.Duration
}

// tolerance is how far usage may be off its target, as a part of it, without consequences.
type tolerance struct{ down, up float64 }

func (t tolerance) covers(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

const defaultTolerance = 0.1

func tolerances(b *autoscalingv2.HorizontalPodAutoscalerBehavior) tolerance {
	t := tolerance{defaultTolerance, defaultTolerance}
	if b != nil && b.ScaleDown != nil && b.ScaleDown.Tolerance != nil {
		t.down = b.ScaleDown.Tolerance.AsApproximateFloat64()
	}
	if b != nil && b.ScaleUp != nil && b.ScaleUp.Tolerance != nil {
		t.up = b.ScaleUp.Tolerance.AsApproximateFloat64()
	}
	return t
}

// How young pods are judged: for as long as a pod starts, its use of CPU says nothing
// of the load.
const (
	startTime = 5 * time.Minute
	readyTime = 30 * time.Second
)

// groups sorts a target's pods: those that count, those that are not ready, and those that
// are but of which no sample is known. What has ended or is going is in none.
type groups struct {
	ready            int
	unready, missing []*corev1.Pod
}

// group sorts pods and leaves of the samples those that count.
func group(pods []*corev1.Pod, samples map[string]sample, cpu bool, now time.Time) groups {
	var g groups
	for _, pod := range pods {
		s, known := samples[pod.Name]
		switch {
		case pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed:
			delete(samples, pod.Name)
		case pod.Status.Phase == corev1.PodPending:
			delete(samples, pod.Name)
			g.unready = append(g.unready, pod)
		case !known:
			g.missing = append(g.missing, pod)
		case cpu && starting(pod, s, now):
			delete(samples, pod.Name)
			g.unready = append(g.unready, pod)
		default:
			g.ready++
		}
	}
	return g
}

func starting(pod *corev1.Pod, s sample, now time.Time) bool {
	var ready *corev1.PodCondition
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodReady {
			ready = &pod.Status.Conditions[i]
		}
	}
	start := pod.Status.StartTime
	switch {
	case ready == nil || start == nil:
		return true
	case start.Add(startTime).After(now):
		return ready.Status == corev1.ConditionFalse || s.at.Before(ready.LastTransitionTime.Add(s.window))
	}
	return ready.Status == corev1.ConditionFalse && start.Add(readyTime).After(ready.LastTransitionTime.Time)
}

var errNoSamples = errors.New("did not receive metrics for targeted pods (pods might be unready)")

// perPod is how many replicas bring the use of each pod to its target. share gives a pod's
// own target for use in thousandths, what counts as full; ratio is use to target over all
// that have a sample. Pods without one are thought of as using what speaks against the
// change: nothing when it goes up, all of their share when it goes down.
func perPod(current int32, g groups, samples map[string]sample, t tolerance, ratio func(map[string]sample) (float64, error), full func(*corev1.Pod) int64) (int32, error) {
	if len(samples) == 0 {
		return 0, errNoSamples
	}
	r, err := ratio(samples)
	if err != nil {
		return 0, err
	}
	up := r > 1 && len(g.unready) > 0
	if !up && len(g.missing) == 0 {
		if t.covers(r) {
			return current, nil
		}
		return ceil(r * float64(g.ready)), nil
	}
	for _, pod := range g.missing {
		switch {
		case r < 1:
			samples[pod.Name] = sample{value: full(pod)}
		case r > 1:
			samples[pod.Name] = sample{}
		}
	}
	if up {
		for _, pod := range g.unready {
			samples[pod.Name] = sample{}
		}
	}
	again, err := ratio(samples)
	if err != nil {
		return 0, err
	}
	if t.covers(again) || r < 1 && again > 1 || r > 1 && again < 1 {
		return current, nil
	}
	n := ceil(again * float64(len(samples)))
	if again < 1 && n > current || again > 1 && n < current {
		return current, nil
	}
	return n, nil
}

// utilization is how much of their requests the pods use, to the target in percent.
func utilization(samples map[string]sample, requests map[string]int64, target int32) (ratio float64, percent int32, average int64, err error) {
	var used, asked, n int64
	for name, s := range samples {
		request, ok := requests[name]
		if !ok {
			continue // a sample of a pod that is gone
		}
		used, asked, n = used+s.value, asked+request, n+1
	}
	if asked == 0 {
		return 0, 0, 0, errors.New("no metrics returned matched known pods")
	}
	percent = int32(used * 100 / asked)
	return float64(percent) / float64(target), percent, used / n, nil
}

// average is what pods use in the mean, to the target.
func average(samples map[string]sample, target int64) (ratio float64, value int64) {
	var sum int64
	for _, s := range samples {
		sum += s.value
	}
	value = sum / int64(len(samples))
	return float64(value) / float64(target), value
}

// whole is how many replicas bring a figure that is one for all pods to its target.
func whole(current int32, value, target int64, ready int, t tolerance) int32 {
	r := float64(value) / float64(target)
	switch {
	case current == 0:
		return ceil(r)
	case t.covers(r):
		return current
	}
	return ceil(r * float64(ready))
}

// shared is the same for a figure that is to be divided among the pods; each is its part.
func shared(current int32, value, target int64, t tolerance) (n int32, each int64) {
	n = current
	if r := float64(value) / (float64(target) * float64(current)); current == 0 || !t.covers(r) {
		n = ceil(float64(value) / float64(target))
	}
	if current == 0 {
		return n, value
	}
	return n, int64(math.Ceil(float64(value) / float64(current)))
}

func ceil(f float64) int32 {
	switch f = math.Ceil(f); {
	case math.IsNaN(f) || f < 0:
		return 0
	case f > math.MaxInt32:
		return math.MaxInt32
	}
	return int32(f)
}

// requestsOf adds up what the containers of each pod ask for of a resource, or one of them.
func requestsOf(pods []*corev1.Pod, container string, resource corev1.ResourceName) (map[string]int64, error) {
	out := map[string]int64{}
	for _, pod := range pods {
		if container == "" && pod.Spec.Resources != nil {
			if q, ok := pod.Spec.Resources.Requests[resource]; ok {
				out[pod.Name] = q.MilliValue()
				continue
			}
		}
		var sum int64
		found := container == ""
		for _, c := range running(pod) {
			if container != "" && container != c.Name {
				continue
			}
			found = true
			q, ok := c.Resources.Requests[resource]
			if !ok {
				return nil, fmt.Errorf("missing request for %s in container %s of Pod %s", resource, c.Name, pod.Name)
			}
			sum += q.MilliValue()
		}
		if !found {
			return nil, fmt.Errorf("container %s not found in Pod %s", container, pod.Name)
		}
		out[pod.Name] = sum
	}
	return out, nil
}

// running are the containers that run as long as the pod: sidecars too.
func running(pod *corev1.Pod) []corev1.Container {
	all := pod.Spec.Containers
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			all = append(all[:len(all):len(all)], c)
		}
	}
	return all
}
