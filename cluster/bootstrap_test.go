package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// A service that others made may have the address of cluster DNS: the server starts, and
// says so, since only a running server lets anybody remove that service.
func TestStartsWhereTheAddressOfDNSIsTaken(t *testing.T) {
	c := newTaken(t)
	client, err := kubernetes.NewForConfig(c.plane.local("administrator", "system:masters"))
	if err != nil {
		t.Fatal(err)
	}
	web := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{
		ClusterIP: dnsAddress(c.plane.cfg.ServiceCIDR).String(), Ports: []corev1.ServicePort{{Port: 80}},
	}}
	if _, err := client.CoreV1().Services("test").Create(t.Context(), web, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	if err := bootstrap(t.Context(), client, c.plane.cfg, slog.New(slog.NewTextHandler(&said, nil))); err != nil {
		t.Fatalf("does not start: %v", err)
	}
	for _, want := range []string{"kube-system/kube-dns", web.Spec.ClusterIP, "test/web"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%q is not in what was logged: %s", want, said.String())
		}
	}
}
