package cluster

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Plugins are switched by the settings, and what they do reaches what is stored.
func TestAdmissionPlugins(t *testing.T) {
	c := newHouse(t, func(cfg *ServerConfig) {
		cfg.EnablePlugins, cfg.DisablePlugins = []string{"DenyServiceExternalIPs", "AlwaysPullImages"}, []string{"ServiceAccount"}
	})
	core := c.client.CoreV1()
	_, err := core.Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "s"},
		Spec:       corev1.ServiceSpec{ExternalIPs: []string{"192.0.2.1"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "Use of external IPs is denied") {
		t.Errorf("a service with an external address: %v", err)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{corev1.LabelTopologyZone: "z"}}}
	if _, err := core.Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod, err := core.Pods("default").Create(t.Context(), &corev1.Pod{ // without a service account
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec: corev1.PodSpec{
			SchedulerName: "nobody", // the test binds it
			Containers:    []corev1.Container{{Name: "c", Image: "i", ImagePullPolicy: corev1.PullNever}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if pod.Spec.Containers[0].ImagePullPolicy != corev1.PullAlways || pod.Spec.ServiceAccountName != "" {
		t.Errorf("%+v", pod.Spec)
	}
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
	if err := core.Pods("default").Bind(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if pod, err = core.Pods("default").Get(t.Context(), "p", metav1.GetOptions{}); err != nil || pod.Labels[corev1.LabelTopologyZone] != "z" {
		t.Errorf("bound with labels %v, %v", pod.Labels, err)
	}
}
