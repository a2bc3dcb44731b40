package ipaddress

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
)

func service(name string, ips ...string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIPs: ips}}
}

func TestEachAddressHasAnObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		foreign := &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.0.0.9"}, Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "gateways", Name: "g"}}}
		stale := wanted("10.0.0.1", []*corev1.Service{service("gone")})
		left := wanted("10.0.0.7", []*corev1.Service{service("gone")})
		client := fake.NewClientset(service("a", "10.0.0.1", "2001:db8::1"), service("headless", "None"), service("b", "10.0.0.9"), foreign, stale, left)
		ctx, cancel := context.WithCancel(t.Context())
		factory := informers.New(client, nil)
		c, err := New(loop.Deps{Client: client, Informers: factory, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		factory.StartWithContext(ctx)
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		defer func() { cancel(); <-ended; factory.Shutdown() }()
		check := func(want string) {
			t.Helper()
			time.Sleep(time.Second) // informers are asked every 100 ms whether they have synced
			synctest.Wait()
			list, err := client.NetworkingV1().IPAddresses().List(ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range list.Items {
				got = append(got, a.Name+"="+a.Spec.ParentRef.Name+"/"+a.Labels[networkingv1.LabelIPAddressFamily])
			}
			if text := strings.Join(got, " "); text != want {
				t.Fatalf("got %s, want %s", text, want)
			}
		}
		check("10.0.0.1=a/IPv4 10.0.0.9=g/ 2001:db8::1=a/IPv6")
		if err := client.CoreV1().Services("ns").Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.CoreV1().Services("ns").Create(ctx, service("c", "10.0.0.1"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		check("10.0.0.1=c/IPv4 10.0.0.9=g/")
	})
}
