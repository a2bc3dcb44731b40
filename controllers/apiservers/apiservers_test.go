package apiservers

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/internal/presence"
)

// Servers are in the endpoints while they renew, whatever their clocks say; the last one stays, and
// where nobody keeps a lease nothing is changed.
func TestServersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(client.Tracker().Add(&discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.9"}}},
		}))
		must(client.Tracker().Add(&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}})) //nolint:staticcheck // older clients read it
		ctx, cancel := context.WithCancel(t.Context())
		factory := informers.New(client, nil)
		c, err := New(loop.Deps{Client: client, Informers: factory, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}})
		must(err)
		factory.StartWithContext(ctx)
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		leases := client.CoordinationV1().Leases(presence.Namespace)
		renew := func(n int, skew time.Duration) {
			t.Helper()
			now := metav1.NewMicroTime(time.Now().Add(skew))
			l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
				Namespace: presence.Namespace, Name: presence.LeaseName(fmt.Sprint("s", n)), Labels: map[string]string{presence.Label: presence.Value},
				Annotations:       map[string]string{presence.Address: fmt.Sprintf("10.0.0.%d:6443", n)},
				CreationTimestamp: metav1.NewTime(time.Unix(int64(n), 0)),
			}, Spec: coordinationv1.LeaseSpec{RenewTime: &now}}
			if _, err := leases.Update(ctx, l, metav1.UpdateOptions{}); err != nil {
				_, err := leases.Create(ctx, l, metav1.CreateOptions{})
				must(err)
			}
		}
		published := func(want ...string) {
			t.Helper()
			synctest.Wait()
			s, err := client.DiscoveryV1().EndpointSlices("default").Get(ctx, name, metav1.GetOptions{})
			must(err)
			var got []string
			for _, e := range s.Endpoints {
				got = append(got, e.Addresses...)
			}
			if !slices.Equal(got, want) {
				t.Errorf("after %v: %v, want %v", time.Since(time.Unix(946684800, 0)), got, want)
			}
		}
		time.Sleep(5 * time.Second) // the informers have started
		published("10.0.0.9")
		renew(1, 0)
		published("10.0.0.1")
		renew(2, time.Hour)
		renew(3, -time.Hour)
		published("10.0.0.1", "10.0.0.2", "10.0.0.3")
		for range 5 {
			time.Sleep(presence.Renew)
			renew(1, 0)
			renew(3, -time.Hour)
			synctest.Wait()
		}
		published("10.0.0.1", "10.0.0.3")
		renew(2, 2*time.Hour)
		published("10.0.0.1", "10.0.0.2", "10.0.0.3")
		must(leases.Delete(ctx, presence.LeaseName("s3"), metav1.DeleteOptions{}))
		published("10.0.0.1", "10.0.0.2")
		time.Sleep(presence.Life / 2)
		renew(1, 0)
		time.Sleep(time.Minute)
		published("10.0.0.1")
		cancel()
		must(<-done)
		factory.Shutdown()
	})
}
