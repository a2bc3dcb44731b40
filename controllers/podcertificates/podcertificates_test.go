package podcertificates

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
)

// Requests stay for a quarter of an hour, counted from when they were made.
func TestRequestsAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(name string, age time.Duration) *certificatesv1.PodCertificateRequest {
			return &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n", UID: "u", CreationTimestamp: metav1.NewTime(time.Now().Add(-age))}}
		}
		client := fake.NewClientset(at("old", time.Hour), at("new", 5*time.Minute))
		shared := informers.New(client, nil)
		c, err := New(loop.Deps{Client: client, Informers: shared, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		shared.StartWithContext(ctx)
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		for _, step := range []struct {
			wait time.Duration
			left int
		}{{time.Minute, 1}, {8 * time.Minute, 1}, {2 * time.Minute, 0}} {
			time.Sleep(step.wait)
			synctest.Wait()
			list, err := client.CertificatesV1().PodCertificateRequests("n").List(ctx, metav1.ListOptions{})
			if err != nil || len(list.Items) != step.left {
				t.Errorf("after another %v: %d requests, %v; want %d", step.wait, len(list.Items), err, step.left)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		shared.Shutdown()
	})
}
