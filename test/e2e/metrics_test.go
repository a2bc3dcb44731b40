package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// loaded is a deployment whose pods are busy while the config map says so, and an autoscaler
// that does not hold back.
const loaded = `
apiVersion: v1
kind: ConfigMap
metadata: {name: load}
data: {busy: "yes"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy}
spec:
  replicas: 1
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 1
      volumes: [{name: load, hostPath: {path: %s}}]
      containers:
      - name: c
        image: proa.local/demo:v1
        command: ["/bin/sh", "-c", "while :; do if [ -e /load/busy ]; then i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; else sleep 0.2; fi; done"]
        volumeMounts: [{name: load, mountPath: /load}]
        resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 150m}}
`

const quick = `{"spec":{"behavior":{"scaleDown":{"stabilizationWindowSeconds":0,"policies":[{"type":"Percent","value":100,"periodSeconds":15}]},"scaleUp":{"stabilizationWindowSeconds":0}}}}`

// TestAutoscalingByCPU scales by what pods use, with nothing installed.
func TestAutoscalingByCPU(t *testing.T) {
	s := up(t)
	s.loadDemo()
	dir := filepath.Join(s.dir, "load")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	flag := filepath.Join(dir, "busy")
	if err := os.WriteFile(flag, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.with(t, "proa kubectl").input(fmt.Sprintf(loaded, dir)).ok("apply", "-f", "-")
	s.kubectl("rollout", "status", "deployment/busy", "--timeout=60s")
	s.kubectl("autoscale", "deployment/busy", "--cpu=50%", "--min=1", "--max=3")
	s.kubectl("patch", "hpa/busy", "-p", quick)
	replicas := func() int {
		n, err := strconv.Atoi(s.kubectl("get", "deployment/busy", "-o", "jsonpath={.spec.replicas}"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	began := time.Now()
	eventually(t, time.Minute, "more replicas for more load", func() bool { return replicas() == 3 })
	t.Logf("scaled up after %s", time.Since(began).Round(time.Second))
	if out := s.kubectl("get", "hpa/busy", "-o", "jsonpath={.status.currentMetrics[0].resource.current.averageUtilization}"); out == "" {
		t.Error("the autoscaler does not say what it saw")
	}
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	eventually(t, 90*time.Second, "one replica without load", func() bool { return replicas() == 1 })
	t.Logf("scaled down after %s", time.Since(began).Round(time.Second))

	// By memory: a pod uses more of it than a hundredth of what it asked for.
	s.kubectl("delete", "hpa/busy")
	s.kubectl("autoscale", "deployment/busy", "--memory=1%", "--min=1", "--max=2")
	eventually(t, time.Minute, "more replicas for more memory", func() bool { return replicas() == 2 })
}

// TestTop asks what pods use by all the forms of kubectl top, and holds it against the cgroup.
func TestTop(t *testing.T) {
	s := up(t)
	s.loadDemo()
	s.kubectl("run", "half", "--image=proa.local/demo:v1", "--restart=Never", `--overrides={"spec":{"containers":[{"name":"half","image":"proa.local/demo:v1","command":["/bin/sh","-c","while :; do :; done"],"resources":{"limits":{"cpu":"100m"}}}]}}`)
	s.kubectl("wait", "--for=condition=Ready", "pod/half", "--timeout=60s")
	time.Sleep(1500 * time.Millisecond) // what has just begun has no figures
	k := s.with(t, "proa kubectl")
	k.says(words("top node"), "NAME", "CPU(cores)", "MEMORY(bytes)", "m")
	k.says(words("top pod -A --containers"), "default", "half")
	k.says(words("top pod --sum --sort-by=cpu"), "half", "________")
	k.says(words("get pods.metrics.k8s.io"), "NAME", "CPU", "MEMORY", "WINDOW", "half")
	k.says(words("get nodes.metrics.k8s.io"), "NAME", "CPU", "MEMORY", "WINDOW")
	k.refuses(words("top pod none"), `pods "none" not found`)
	uid := s.kubectl("get", "pod/half", "-o", "jsonpath={.metadata.uid}")
	for range 3 {
		time.Sleep(4 * time.Second)
		use := s.usageOf("default", "half")
		begun, at := s.cpuTime(uid), time.Now()
		time.Sleep(2 * time.Second)
		truth := float64(s.cpuTime(uid)-begun) / float64(time.Since(at))
		if use < truth*0.6 || use > truth*1.5 {
			t.Errorf("the API says %.3f cores, the cgroup %.3f", use, truth)
		}
	}
}

// usageOf is what a pod uses, in cores.
func (s *site) usageOf(namespace, name string) float64 {
	s.t.Helper()
	var m struct {
		Containers []struct{ Usage struct{ CPU string } }
	}
	if err := json.Unmarshal([]byte(s.kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/namespaces/"+namespace+"/pods/"+name)), &m); err != nil {
		s.t.Fatal(err)
	}
	total := 0.0
	for _, c := range m.Containers {
		text, scale := strings.TrimSuffix(c.Usage.CPU, "n"), 1e-9
		if text == c.Usage.CPU {
			text, scale = strings.TrimSuffix(text, "u"), 1e-6
		}
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			s.t.Fatalf("usage %q: %v", c.Usage.CPU, err)
		}
		total += n * scale
	}
	return total
}

// cpuTime is the CPU time of a pod's cgroup.
func (s *site) cpuTime(uid string) time.Duration {
	s.t.Helper()
	for pattern, read := range map[string]func(string) time.Duration{
		"/sys/fs/cgroup/cpuacct/proa/" + s.name + "/*/kubepods/*/pod" + uid + "/cpuacct.usage": func(text string) time.Duration {
			n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			return time.Duration(n)
		},
		"/sys/fs/cgroup/proa/" + s.name + "/*/kubepods/*/pod" + uid + "/cpu.stat": func(text string) time.Duration {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimPrefix(strings.SplitN(text, "\n", 2)[0], "usage_usec ")), 10, 64)
			return time.Duration(n) * time.Microsecond
		},
	} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(files) == 1 {
			raw, err := os.ReadFile(files[0])
			if err != nil {
				s.t.Fatal(err)
			}
			return read(string(raw))
		}
	}
	s.t.Fatal("the pod has no cgroup")
	return 0
}

// told is what dashboards and alerts read: name, type and some of the labels of each sample.
var told = map[string]string{
	"metrics/resource": `
node_cpu_usage_seconds_total COUNTER
node_memory_working_set_bytes GAUGE
node_swap_usage_bytes GAUGE
container_cpu_usage_seconds_total COUNTER container namespace pod
container_memory_working_set_bytes GAUGE container namespace pod
container_swap_usage_bytes GAUGE container namespace pod
container_start_time_seconds GAUGE container namespace pod
pod_cpu_usage_seconds_total COUNTER namespace pod
pod_memory_working_set_bytes GAUGE namespace pod
resource_scrape_error GAUGE`,
	"metrics/cadvisor": `
container_cpu_usage_seconds_total COUNTER container cpu id image name namespace pod
container_cpu_user_seconds_total COUNTER container id image name namespace pod
container_cpu_system_seconds_total COUNTER container id image name namespace pod
container_cpu_cfs_periods_total COUNTER container id image name namespace pod
container_cpu_cfs_throttled_periods_total COUNTER container id image name namespace pod
container_cpu_cfs_throttled_seconds_total COUNTER container id image name namespace pod
container_memory_working_set_bytes GAUGE container id image name namespace pod
container_memory_usage_bytes GAUGE container id image name namespace pod
container_memory_rss GAUGE container id image name namespace pod
container_memory_cache GAUGE container id image name namespace pod
container_memory_swap GAUGE container id image name namespace pod
container_memory_failures_total COUNTER container failure_type id image name namespace pod scope
container_oom_events_total COUNTER container id image name namespace pod
container_network_receive_bytes_total COUNTER container id image interface name namespace pod
container_network_transmit_packets_dropped_total COUNTER container id image interface name namespace pod
container_fs_usage_bytes GAUGE container device id image name namespace pod
container_fs_limit_bytes GAUGE container device id image name namespace pod
container_processes GAUGE container id image name namespace pod
container_spec_cpu_quota GAUGE container id image name namespace pod
container_spec_cpu_shares GAUGE container id image name namespace pod
container_spec_memory_limit_bytes GAUGE container id image name namespace pod
container_start_time_seconds GAUGE container id image name namespace pod
container_last_seen GAUGE container id image name namespace pod
machine_cpu_cores GAUGE
machine_memory_bytes GAUGE`,
	"metrics/probes": `
prober_probe_total COUNTER container namespace pod pod_uid probe_type result
prober_probe_duration_seconds HISTOGRAM container namespace pod probe_type`,
	"metrics": `
kubelet_node_name GAUGE node
kubelet_running_pods GAUGE
kubelet_running_containers GAUGE container_state
kubelet_desired_pods GAUGE static
kubelet_pod_start_duration_seconds HISTOGRAM
kubelet_pod_start_sli_duration_seconds HISTOGRAM
kubelet_pod_worker_duration_seconds HISTOGRAM operation_type
kubelet_runtime_operations_total COUNTER operation_type
kubelet_runtime_operations_duration_seconds HISTOGRAM operation_type
kubelet_cgroup_manager_duration_seconds HISTOGRAM operation_type
kubelet_started_pods_total COUNTER
kubelet_started_containers_total COUNTER container_type
kubelet_volume_stats_available_bytes GAUGE namespace persistentvolumeclaim
kubelet_volume_stats_capacity_bytes GAUGE namespace persistentvolumeclaim
kubelet_volume_stats_inodes_used GAUGE namespace persistentvolumeclaim
kubelet_certificate_manager_server_ttl_seconds GAUGE
storage_operation_duration_seconds HISTOGRAM migrated operation_name status volume_plugin
volume_manager_total_volumes GAUGE plugin_name state
kubeproxy_sync_proxy_rules_duration_seconds HISTOGRAM ip_family
kubeproxy_sync_proxy_rules_last_timestamp_seconds GAUGE ip_family
kubeproxy_network_programming_duration_seconds HISTOGRAM ip_family
kubeproxy_sync_proxy_rules_endpoint_changes_total COUNTER
rest_client_requests_total COUNTER code host method
go_goroutines GAUGE
process_cpu_seconds_total COUNTER`,
	"server": `
scheduler_schedule_attempts_total COUNTER profile result
scheduler_scheduling_attempt_duration_seconds HISTOGRAM profile result
scheduler_scheduling_algorithm_duration_seconds HISTOGRAM
scheduler_pod_scheduling_sli_duration_seconds HISTOGRAM attempts
scheduler_pending_pods GAUGE queue
scheduler_queue_incoming_pods_total COUNTER event queue
node_collector_zone_size GAUGE zone
node_collector_zone_health GAUGE zone
node_collector_unhealthy_nodes_in_zone GAUGE zone
endpoint_slice_controller_num_endpoint_slices GAUGE
endpoint_slice_controller_endpoints_desired GAUGE
endpoint_slice_controller_changes COUNTER operation
endpoint_slice_controller_syncs COUNTER result
workqueue_depth GAUGE name`,
}

// asked is a pod that makes every figure: it is probed, claims a volume and has a limit.
const asked = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Service
metadata: {name: full}
spec: {selector: {app: full}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: full, labels: {app: full}}
spec:
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
  containers:
  - name: c
    image: proa.local/demo:v1
    volumeMounts: [{name: data, mountPath: /data}]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
    resources: {limits: {cpu: 200m, memory: 64Mi}}
`

// TestExpositions reads what is told to Prometheus by its own parser, and holds it against what
// dashboards read.
func TestExpositions(t *testing.T) {
	s := up(t)
	s.loadDemo()
	s.with(t, "proa kubectl").input(asked).ok("apply", "-f", "-")
	s.kubectl("wait", "--for=condition=Ready", "pod/full", "--timeout=60s")
	node := s.kubectl("get", "node", "-o", "jsonpath={.items[0].metadata.name}")
	for path, list := range told {
		at := "/api/v1/nodes/" + node + "/proxy/" + path
		if path == "server" {
			at = "/metrics"
		}
		text := s.kubectl("get", "--raw", at)
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(text))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for line := range strings.Lines(strings.TrimSpace(list)) {
			f := strings.Fields(line)
			family := families[f[0]]
			if family == nil {
				t.Errorf("%s has no %s", path, f[0])
				continue
			}
			if family.GetType().String() != f[1] {
				t.Errorf("%s: %s is a %s, not a %s", path, f[0], family.GetType(), f[1])
			}
			var labels []string
			for _, pair := range family.Metric[len(family.Metric)-1].Label {
				labels = append(labels, pair.GetName())
			}
			if len(labels) != len(f)-2 {
				t.Errorf("%s: %s has the labels %q, not %q", path, f[0], labels, f[2:])
			}
			for _, want := range f[2:] {
				if !strings.Contains(" "+strings.Join(labels, " ")+" ", " "+want+" ") {
					t.Errorf("%s: %s has the labels %q, not %q", path, f[0], labels, f[2:])
				}
			}
		}
	}
}
