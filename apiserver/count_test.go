package apiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

func TestMetrics(t *testing.T) {
	h := newHouse(t)
	c := h.typed("root")
	if _, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{DryRun: []string{"All"}}); err != nil {
		t.Fatal(err)
	}
	w, err := c.CoreV1().Pods("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	h.do("GET", "/healthz", "")
	h.do("GET", "/api/v1/namespaces/none", "")
	for i := range 50 { // nothing of a client's making
		h.do("BREW", fmt.Sprintf("/apis/g%d/v1/namespaces/x/thing%d", i, i), "")
		h.do("GET", fmt.Sprintf("/api/v1/namespaces/default/pods/a/sub%d", i), "")
	}
	text := string(h.do("GET", "/metrics", "").body)
	for _, want := range []string{
		`apiserver_request_total{code="201",component="apiserver",dry_run="All",group="",resource="configmaps",scope="resource",subresource="",verb="POST",version="v1"} 1`,
		`apiserver_request_total{code="404",component="apiserver",dry_run="",group="",resource="namespaces",scope="resource",subresource="",verb="GET",version="v1"} 1`,
		`apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="",scope="",subresource="/healthz",verb="GET",version=""} 1`,
		`apiserver_longrunning_requests{component="apiserver",group="",resource="pods",scope="namespace",subresource="",verb="WATCH",version="v1"} 1`,
		`apiserver_request_duration_seconds_bucket{component="apiserver",dry_run="All",group="",resource="configmaps",scope="resource",subresource="",verb="POST",version="v1",le="60"} 1`,
		`apiserver_current_inflight_requests{request_kind="readOnly"} 1`,
		`apiserver_storage_objects{resource="namespaces"} 2`,
		`apiserver_storage_objects{resource="deployments.apps"} 0`,
		`apiserver_flowcontrol_nominal_limit_seats{priority_level="workload-low"} `,
		`apiserver_flowcontrol_dispatched_requests_total{flow_schema="global-default",priority_level="global-default"}`,
		`kubernetes_build_info{`, `go_goroutines`, `process_resident_memory_bytes`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "thing") || strings.Contains(text, "sub7") || strings.Contains(text, "BREW") {
		t.Error("clients can make labels")
	}
	if a := h.do("GET", "/debug/api_priority_and_fairness/dump_priority_levels", ""); !strings.HasPrefix(string(a.body), "PriorityLevelName,") || !strings.Contains(string(a.body), "\nglobal-default,") {
		t.Errorf("dump: %s", a.body)
	}
	if a := h.do("GET", "/metrics/slis", ""); !strings.Contains(string(a.body), `kubernetes_healthcheck{name="etcd",type="livez"} 1`) {
		t.Errorf("slis: %s", a.body)
	}
	if a := h.do("GET", "/metrics", "", "Authorization", "Bearer alice"); a.code != http.StatusForbidden {
		t.Errorf("anybody gets the metrics: %d", a.code)
	}
}

// The headers say how a request was classified; watches do not hold a place.
func TestPlaces(t *testing.T) {
	h := newHouse(t)
	c := client(t, kubernetes.NewForConfig, h.config("root"))
	for range 300 {
		w, err := c.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
	}
	a := h.do("GET", "/api/v1/pods", "")
	if _, there := a.header["X-Kubernetes-Pf-Flowschema-Uid"]; a.code != http.StatusOK || !there {
		t.Errorf("%d %v", a.code, a.header)
	}
	const alone = `apiserver_flowcontrol_current_executing_requests{priority_level="global-default"} 1` + "\n"
	for end := time.Now().Add(5 * time.Second); !strings.Contains(string(h.do("GET", "/metrics", "").body), alone); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) { // an answered request gives its place back a moment later
			t.Fatal("watches hold places")
		}
	}
}
