package endpointslice

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func service() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "svc", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.10", Selector: map[string]string{"app": "web"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")}},
		},
	}
}

func pod(i int, port int32, ready bool) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("web-%d", i), UID: types.UID(fmt.Sprintf("u%d", i)), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{
			Name: "c", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: corev1.ProtocolTCP}},
		}}},
	}
	p.Status.Phase, p.Status.PodIP = corev1.PodRunning, fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}
	return p
}

func noZone(string) string { return "" }

// apply performs a plan on slices as the server would.
func apply(have []*discoveryv1.EndpointSlice, p Plan, next *int) []*discoveryv1.EndpointSlice {
	byUID := map[types.UID]*discoveryv1.EndpointSlice{}
	for _, s := range have {
		byUID[s.UID] = s
	}
	for _, s := range p.Create {
		*next++
		s.UID = types.UID(fmt.Sprint("slice", *next))
		byUID[s.UID] = s
	}
	for _, s := range p.Update {
		byUID[s.UID] = s
	}
	for _, s := range p.Delete {
		delete(byUID, s.UID)
	}
	var list []*discoveryv1.EndpointSlice
	for _, s := range byUID {
		list = append(list, s)
	}
	return list
}

func size(p Plan) int { return len(p.Create) + len(p.Update) + len(p.Delete) }

// Whatever happens to the pods, the slices show exactly them, once each, none too full, and
// a second look has nothing to write.
func TestPlanConverges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	svc, next := service(), 0
	pods := map[int]*corev1.Pod{}
	var have []*discoveryv1.EndpointSlice
	for round := range 200 {
		for range random.IntN(80) {
			i := random.IntN(450)
			if random.IntN(3) == 0 && round%20 != 19 {
				delete(pods, i)
			} else {
				pods[i] = pod(i, 8080+int32(random.IntN(10)/9), random.IntN(2) == 0)
			}
		}
		if round%50 == 49 {
			clear(pods)
		}
		var list []*corev1.Pod
		for _, p := range pods {
			list = append(list, p)
		}
		have = apply(have, plan(svc, list, have, noZone), &next)
		checkShown(t, pods, have)
		if again := plan(svc, list, have, noZone); size(again) != 0 {
			t.Fatalf("round %d: a second look wants %d creates, %d updates, %d deletes", round, len(again.Create), len(again.Update), len(again.Delete))
		}
	}
}

func checkShown(t *testing.T, pods map[int]*corev1.Pod, have []*discoveryv1.EndpointSlice) {
	t.Helper()
	if len(have) == 0 {
		t.Fatal("no slice, not even an empty one")
	}
	seen := map[string]bool{}
	for _, s := range have {
		if len(s.Endpoints) > perSlice || len(s.Endpoints) == 0 && len(have) > 1 {
			t.Fatalf("a slice of %d among %d", len(s.Endpoints), len(have))
		}
		for _, e := range s.Endpoints {
			if seen[e.TargetRef.Name] {
				t.Fatalf("%s is there twice", e.TargetRef.Name)
			}
			seen[e.TargetRef.Name] = true
		}
	}
	if len(seen) != len(pods) {
		t.Fatalf("%d endpoints of %d pods", len(seen), len(pods))
	}
}

func TestPlanTouchesLittle(t *testing.T) {
	svc, next := service(), 0
	var pods []*corev1.Pod
	for i := range 250 {
		pods = append(pods, pod(i, 8080, true))
	}
	have := apply(nil, plan(svc, pods, nil, noZone), &next)
	if len(have) != 3 {
		t.Fatalf("%d slices for 250 pods", len(have))
	}
	pods[7] = pod(7, 8080, false)
	if p := plan(svc, pods, have, noZone); len(p.Update) != 1 || size(p) != 1 {
		t.Errorf("one pod's readiness: %d creates, %d updates, %d deletes", len(p.Create), len(p.Update), len(p.Delete))
	}
	have = apply(have, plan(svc, pods, have, noZone), &next)
	pods = append(pods, pod(300, 8080, true))
	if p := plan(svc, pods, have, noZone); len(p.Update) != 1 || size(p) != 1 {
		t.Errorf("one more pod: %d creates, %d updates, %d deletes", len(p.Create), len(p.Update), len(p.Delete))
	}
}

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		name                        string
		edit                        func(*corev1.Service, *corev1.Pod)
		ready, serving, terminating bool
	}{
		{"ready", func(*corev1.Service, *corev1.Pod) {}, true, true, false},
		{"terminating", func(_ *corev1.Service, p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }, false, true, true},
		{"not ready", func(_ *corev1.Service, p *corev1.Pod) { p.Status.Conditions = nil }, false, false, false},
		{"published", func(s *corev1.Service, p *corev1.Pod) {
			s.Spec.PublishNotReadyAddresses, p.Status.Conditions = true, nil
		}, true, false, false},
	} {
		svc, p := service(), pod(1, 8080, true)
		c.edit(svc, p)
		got := plan(svc, []*corev1.Pod{p}, nil, noZone).Create[0]
		is := got.Endpoints[0].Conditions
		if *is.Ready != c.ready || *is.Serving != c.serving || *is.Terminating != c.terminating {
			t.Errorf("%s: ready %v serving %v terminating %v", c.name, *is.Ready, *is.Serving, *is.Terminating)
		}
		if *got.Ports[0].Port != 8080 || got.Labels["team"] != "a" || got.Labels[discoveryv1.LabelServiceName] != "web" {
			t.Errorf("%s: slice %+v", c.name, got)
		}
	}
	svc, p := service(), pod(1, 8080, true)
	svc.Spec.ClusterIP, p.Spec.Hostname, p.Spec.Subdomain = "None", "a", "web"
	got := plan(svc, []*corev1.Pod{p}, nil, noZone).Create[0]
	if _, headless := got.Labels[corev1.IsHeadlessService]; !headless || got.Endpoints[0].Hostname == nil {
		t.Errorf("headless: %+v", got)
	}
}

func BenchmarkOneOfThousand(b *testing.B) {
	svc, next := service(), 0
	var pods []*corev1.Pod
	for i := range 1000 {
		pods = append(pods, pod(i, 8080, true))
	}
	have := apply(nil, plan(svc, pods, nil, noZone), &next)
	pods[7] = pod(7, 8080, false)
	for b.Loop() {
		plan(svc, pods, have, noZone)
	}
}
