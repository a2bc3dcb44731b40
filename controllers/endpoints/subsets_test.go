package endpoints

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestSubsets(t *testing.T) {
	service := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")}}}}
	pod := func(ip string, port int32, ready corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{
			Spec:   corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: corev1.ProtocolTCP}}}}},
			Status: corev1.PodStatus{PodIP: ip, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
		}
	}
	ended, going := pod("10.0.0.8", 8080, "True"), pod("10.0.0.9", 8080, "True")
	ended.Status.Phase, going.DeletionTimestamp = corev1.PodSucceeded, &metav1.Time{}
	pods := []*corev1.Pod{pod("10.0.0.3", 9090, "True"), pod("10.0.0.2", 8080, "False"), pod("10.0.0.1", 8080, "True"), pod("", 8080, "True"), ended, going}
	show := func() (out string) {
		subsets, _ := subsetsOf(service, pods)
		for _, s := range subsets {
			out += fmt.Sprint(s.Ports[0].Port)
			for _, a := range s.Addresses {
				out += " " + a.IP
			}
			for _, a := range s.NotReadyAddresses {
				out += " !" + a.IP
			}
			out += "; "
		}
		return out
	}
	if got, want := show(), "8080 10.0.0.1 !10.0.0.2; 9090 10.0.0.3; "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	service.Spec.PublishNotReadyAddresses = true
	if got, want := show(), "8080 10.0.0.1 10.0.0.2 10.0.0.9; 9090 10.0.0.3; "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for range 1000 {
		pods = append(pods, pod("10.1.0.1", 8080, "True"))
	}
	if _, truncated := subsetsOf(service, pods); !truncated {
		t.Error("not truncated")
	}
}
