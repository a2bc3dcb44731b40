package cluster

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// known are the metrics that dashboards and alerts ask for, each with labels that they use.
var known = []string{
	`aggregator_unavailable_apiservice{name="v1."} 0`,
	`apiserver_admission_controller_admission_duration_seconds_count{name="LimitRanger",operation="CREATE",rejected="false",type="admit"}`,
	`apiserver_admission_step_admission_duration_seconds_bucket{operation="CREATE",rejected="true",type="validate",le="0.005"}`,
	`apiserver_current_inflight_requests{request_kind="mutating"}`,
	`apiserver_flowcontrol_current_executing_seats{priority_level="exempt"}`,
	`apiserver_flowcontrol_nominal_limit_seats{priority_level="workload-low"}`,
	`apiserver_longrunning_requests{component="apiserver",group="",resource="configmaps",scope="cluster",subresource="",verb="WATCH",version="v1"}`,
	`apiserver_request_duration_seconds_bucket{component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="POST",version="v1",le="0.1"}`,
	`apiserver_request_sli_duration_seconds_bucket{component="apiserver",group="",resource="pods",scope="resource",subresource="",verb="POST",version="v1",le="0.05"}`,
	`apiserver_request_total{code="403",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="POST",version="v1"}`,
	`apiserver_response_sizes_sum{component="apiserver",group="",resource="configmaps",scope="cluster",subresource="",verb="LIST",version="v1"}`,
	`apiserver_storage_objects{resource="configmaps"}`,
	`apiserver_storage_size_bytes{storage_cluster_id="etcd-0"}`,
	`apiserver_watch_events_sizes_bucket{group="",resource="configmaps",version="v1",le="1024"}`,
	`apiserver_watch_events_total{group="",resource="configmaps",version="v1"}`,
	`authenticated_user_requests{username="other"}`,
	`authorization_attempts_total{result="allowed"}`,
	`etcd_request_duration_seconds_count{group="",operation="create",resource="configmaps"}`,
	`go_goroutines`,
	`kube_apiserver_clusterip_allocator_allocated_ips{cidr="10.96.0.0/16"} 2`,
	`kubernetes_build_info{`,
	`process_cpu_seconds_total`,
	`process_resident_memory_bytes`,
	`workqueue_adds_total{name="serviceaccount`,
	`workqueue_depth{name="deployment"} 0`,
	`workqueue_queue_duration_seconds_bucket{name="namespace",le="`,
}

func TestMetricsThatDashboardsKnow(t *testing.T) {
	h := newHouse(t, nil)
	client, err := kubernetes.NewForConfig(h.local("administrator", "system:masters"))
	if err != nil {
		t.Fatal(err)
	}
	core := client.CoreV1()
	watch, err := core.ConfigMaps("").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if _, err := core.ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	<-watch.ResultChan()
	if _, err := core.ConfigMaps("").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	strict := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "strict", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
	if _, err := core.Namespaces().Create(t.Context(), strict, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	eventually(t, 10*time.Second, "the pod is refused by its namespace's level", func() bool {
		_, err := core.Pods("strict").Create(t.Context(), pod, metav1.CreateOptions{})
		return err != nil && strings.Contains(err.Error(), "violates PodSecurity")
	})
	var text []byte
	lacking := func() (all []string) {
		if text, err = core.RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, want := range known {
			if !strings.Contains("\n"+string(text), "\n"+want) {
				all = append(all, want)
			}
		}
		return all
	}
	for end := time.Now().Add(10 * time.Second); len(lacking()) > 0 && time.Now().Before(end); { // APIServices are made one after another
		time.Sleep(50 * time.Millisecond)
	}
	for _, want := range lacking() {
		name, _, _ := strings.Cut(want, "{")
		t.Errorf("not there: %s; lines of %s: %s", want, name, linesOf(string(text), name))
	}
}

func linesOf(text, name string) string {
	var out []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name) && len(out) < 5 {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
