package loadbalancer

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(name, ip string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}, Status: corev1.NodeStatus{
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: ip}},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
	}}
	for _, f := range change {
		f(n)
	}
	return n
}

func service(name string, age time.Duration, local bool, ports ...int32) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age))},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.9"}}
	if local {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	for _, p := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: p, Protocol: corev1.ProtocolTCP})
	}
	return s
}

func TestShare(t *testing.T) {
	nodes := []*corev1.Node{
		node("b", "192.0.2.2"), node("a", "192.0.2.1"),
		node("sick", "192.0.2.3", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }),
		node("shy", "192.0.2.4", func(n *corev1.Node) { n.Labels[corev1.LabelNodeExcludeBalancers] = "" }),
		node("outer", "10.0.0.5", func(n *corev1.Node) {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "198.51.100.5"})
		}),
	}
	services := []*corev1.Service{
		service("young", time.Hour, false, 80), service("old", 2*time.Hour, false, 80, 443),
		service("local", time.Hour, true, 81), service("nowhere", time.Hour, true, 82),
		service("api", time.Hour, false, 6443), service("ssh", time.Minute, false, 22),
	}
	given, why := share(services, nodes, map[door]string{
		{netip.MustParseAddr("192.0.2.1"), corev1.ProtocolTCP, 6443}:    "the API",
		{netip.MustParseAddr("192.0.2.1"), corev1.ProtocolUDP, 22}:      "a pod",
		{netip.MustParseAddr("192.0.2.2"), corev1.ProtocolTCP, 443}:     "pod d/p",
		{netip.MustParseAddr("198.51.100.5"), corev1.ProtocolTCP, 6443}: "the API",
	}, func(s *corev1.Service) map[string]bool {
		return map[string]map[string]bool{"local": {"b": true, "sick": true}}[s.Name]
	})
	for i, want := range []string{
		"[192.0.2.2] ",              // young: where the older one could not be
		"[192.0.2.1 198.51.100.5] ", // old: where both its ports are free
		"[192.0.2.2] ",
		"[] no node has a ready endpoint, and externalTrafficPolicy is Local",
		"[192.0.2.2] ",
		"[192.0.2.1 192.0.2.2 198.51.100.5] ", // of UDP is not of TCP
	} {
		if got := fmt.Sprint(given[services[i]], " ", why[services[i]]); got != want {
			t.Errorf("%s: %s, want %s", services[i].Name, got, want)
		}
	}
	_, why = share([]*corev1.Service{service("x", 0, false, 6443)}, nodes[1:2], map[door]string{{netip.MustParseAddr("192.0.2.1"), corev1.ProtocolTCP, 6443}: "the API"}, nil)
	for _, reason := range why {
		if reason != "port 6443/TCP of 192.0.2.1 belongs to the API" {
			t.Error(reason)
		}
	}
	holder := service("holder", time.Minute, false, 80)
	holder.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	given, why = share([]*corev1.Service{services[1], holder}, nodes[1:2], map[door]string{}, nil)
	if len(given[holder]) != 1 || why[services[1]] != "port 80/TCP of 192.0.2.1 belongs to service d/holder" {
		t.Errorf("%v, %v", given, why)
	}
	if _, why = share(services[:1], nil, map[door]string{}, nil); why[services[0]] != "no node is ready" {
		t.Error(why)
	}
}

func TestOurs(t *testing.T) {
	other, own := "example.com/lb", Class
	for name, c := range map[string]struct {
		change func(*corev1.Service)
		want   bool
	}{
		"plain":      {func(*corev1.Service) {}, true},
		"other type": {func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, false},
		"other's":    {func(s *corev1.Service) { s.Spec.LoadBalancerClass = &other }, false},
		"by name":    {func(s *corev1.Service) { s.Spec.LoadBalancerClass = &own }, true},
		"going":      {func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{} }, false},
	} {
		s := service("s", 0, false, 80)
		c.change(s)
		if ours(s) != c.want {
			t.Error(name)
		}
	}
}

func TestStatusIsWrittenOnce(t *testing.T) {
	s := service("s", 0, false, 80)
	given := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	want := status(s, given)
	if want == nil || want.Ingress[0].IP != "192.0.2.1" || *want.Ingress[0].IPMode != corev1.LoadBalancerIPModeVIP {
		t.Fatalf("%+v", want)
	}
	s.Status.LoadBalancer = *want
	if again := status(s, given); again != nil {
		t.Errorf("%+v", again)
	}
	if gone := status(s, nil); gone == nil || len(gone.Ingress) != 0 {
		t.Errorf("%+v", gone)
	}
}
