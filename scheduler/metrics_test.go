package scheduler

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestQueueIsCounted(t *testing.T) {
	now := time.Unix(1000, 0)
	q, m := newQueue(func() time.Time { return now }), NewMetrics()
	if lines(scraped(t, m), "scheduler_pending_pods") != 0 {
		t.Error("a scheduler that is not made yet has pods that wait")
	}
	m.queue.Store(q)
	for _, name := range []string{"a", "b", "c"} {
		q.set(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}})
	}
	one, _ := q.next()
	two, _ := q.next()
	q.failed(one, failure{wakes: nodeChanged})
	q.again(two)
	q.happened(nodeChanged, func(failure) bool { return true })
	now = now.Add(time.Minute)
	q.next() // brings back what has waited for long enough
	m.ended(unschedulable, time.Now())
	m.placed(1, time.Second)
	m.placed(40, time.Second)
	want := `
scheduler_pending_pods{queue="active"} 3
scheduler_pending_pods{queue="backoff"} 0
scheduler_pending_pods{queue="unschedulable"} 0
scheduler_queue_incoming_pods_total{event="BackoffComplete",queue="active"} 2
scheduler_queue_incoming_pods_total{event="NodeUpdate",queue="backoff"} 1
scheduler_queue_incoming_pods_total{event="PodAdd",queue="active"} 3
scheduler_queue_incoming_pods_total{event="ScheduleAttemptFailure",queue="backoff"} 1
scheduler_queue_incoming_pods_total{event="ScheduleAttemptFailure",queue="unschedulable"} 1
`
	text := scraped(t, m)
	for line := range strings.Lines(strings.TrimSpace(want)) {
		if !strings.Contains(text, "\n"+strings.TrimSpace(line)+"\n") {
			t.Errorf("no %s in:\n%s", line, text)
		}
	}
	if n := lines(text, "scheduler_pod_scheduling_sli_duration_seconds_count"); n != 2 {
		t.Errorf("%d series of waiting times", n)
	}
}

// scraped is what a scrape of one collector answers.
func scraped(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	r := prometheus.NewRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func lines(text, prefix string) (n int) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}
