package endpointslicemirroring

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSlices(t *testing.T) {
	port := func(name string, n int32) []corev1.EndpointPort {
		return []corev1.EndpointPort{{Name: name, Port: n, Protocol: corev1.ProtocolTCP}}
	}
	e := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "ns", Labels: map[string]string{"l": "v"}, Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: "x", "a": "v"}},
		Subsets: []corev1.EndpointSubset{
			{Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}, {IP: "fd00::1"}}, NotReadyAddresses: []corev1.EndpointAddress{{IP: "10.0.0.2", Hostname: "h"}}, Ports: port("a", 80)},
			{Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}}, Ports: port("b", 81)},
			{Addresses: []corev1.EndpointAddress{{IP: "10.0.0.3"}, {IP: "nonsense"}}, Ports: port("a", 80)},
		},
	}
	count := map[string]int{}
	for name, s := range slicesOf(e) {
		if name != s.Name || s.Labels["l"] != "v" || s.Labels[discoveryv1.LabelServiceName] != "e" || s.Annotations["a"] != "v" || len(s.Annotations) != 1 {
			t.Errorf("%+v", s.ObjectMeta)
		}
		for _, at := range s.Endpoints {
			if ready := at.Addresses[0] != "10.0.0.2"; *at.Conditions.Ready != ready {
				t.Errorf("%s: ready %v", at.Addresses[0], !ready)
			}
		}
		count[string(s.AddressType)+*s.Ports[0].Name] = len(s.Endpoints)
	}
	if len(count) != 3 || count["IPv4a"] != 3 || count["IPv6a"] != 1 || count["IPv4b"] != 1 {
		t.Error(count)
	}
	if !shown(e, &corev1.Service{}) || shown(e, nil) || shown(nil, &corev1.Service{}) || shown(e, &corev1.Service{Spec: corev1.ServiceSpec{Selector: map[string]string{"a": "b"}}}) {
		t.Error("what is mirrored and what is not is mixed up")
	}
}
