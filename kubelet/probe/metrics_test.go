package probe

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

// Two runs of one container, and two pods of one name, are told in series that are told apart.
func TestTold(t *testing.T) {
	p := New(Config{})
	add := func(id string, uid types.UID, results [Errored + 1]uint64, took ...time.Duration) {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}}
		pod.UID = uid
		n := &probe{target: Target{Pod: pod, Container: &corev1.Container{Name: "c"}}, results: results}
		for _, d := range took {
			n.took.add(d)
		}
		p.probes[key{id, Liveness}] = n
	}
	add("first", "uid", [Errored + 1]uint64{Success: 2, Failure: 1}, time.Millisecond)
	add("again", "uid", [Errored + 1]uint64{Success: 3, Warning: 1, Errored: 1}, 2*time.Second)
	add("other", "other", [Errored + 1]uint64{Success: 1})
	want := `
prober_probe_total{container="c",namespace="n",pod="p",pod_uid="uid",probe_type="Liveness",result="successful"} 6
prober_probe_total{container="c",namespace="n",pod="p",pod_uid="uid",probe_type="Liveness",result="failed"} 1
prober_probe_total{container="c",namespace="n",pod="p",pod_uid="uid",probe_type="Liveness",result="unknown"} 1
prober_probe_total{container="c",namespace="n",pod="p",pod_uid="other",probe_type="Liveness",result="successful"} 1
`
	text := scraped(t, p)
	for line := range strings.Lines(strings.TrimSpace(want)) {
		if !strings.Contains(text, "\n"+strings.TrimSpace(line)+"\n") {
			t.Errorf("no %s in:\n%s", line, text)
		}
	}
	if n := lines(text, "prober_probe_duration_seconds_count"); n != 1 {
		t.Errorf("%d histograms of times", n)
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
