package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// away is a deployment whose pods leave a node three seconds after it is given up.
const away = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: away}
spec:
  replicas: 2
  selector: {matchLabels: {app: away}}
  template:
    metadata: {labels: {app: away}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: away}}}
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 3}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 3}
      containers:
      - {name: c, image: "proa.local/demo:v1", command: [/bin/sleep, "SECONDS"]}
`

// grace is how long a node may be silent. Two and a half leases: less would count a
// healthy node as silent.
const grace = 25 * time.Second

// A node whose cable is pulled goes NotReady, its pods move, and when it is back nothing
// runs twice.
func TestNodeCutOff(t *testing.T) {
	s := up(t, "--nodes", "2", "--node-monitor-grace-period", grace.String())
	s.loadDemo()
	seconds := fmt.Sprint(900000 + os.Getpid())
	manifest := filepath.Join(s.dir, "away.yaml")
	if err := os.WriteFile(manifest, []byte(strings.ReplaceAll(away, "SECONDS", seconds)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.kubectl("apply", "-f", manifest)
	s.kubectl("rollout", "status", "deployment/away", "--timeout=30s")
	second := strings.Fields(s.kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))[1]
	if n := s.podsOn(second); n != 1 {
		t.Fatalf("%d of the two pods are on %s, want 1", n, second)
	}

	cable := s.cable()
	set := func(state string) {
		if out, err := exec.Command("ip", "link", "set", cable, state).CombinedOutput(); err != nil {
			t.Fatalf("set %s %s: %v: %s", cable, state, err, out)
		}
	}
	set("down")
	begun := time.Now()
	eventually(t, grace+15*time.Second, "the node to be NotReady", func() bool {
		return s.kubectl("get", "node", second, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`) == "Unknown"
	})
	t.Logf("NotReady after %s", time.Since(begun).Round(time.Millisecond))
	eventually(t, 30*time.Second, "both pods on the node that is left", func() bool {
		return s.kubectl("get", "deployment", "away", "-o", "jsonpath={.status.readyReplicas}") == "2" && s.readyOff(second) == 2
	})
	t.Logf("moved after %s", time.Since(begun).Round(time.Millisecond))

	set("up")
	eventually(t, 40*time.Second, "the node to be back", func() bool {
		return s.kubectl("get", "node", second, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`) == "True"
	})
	eventually(t, 30*time.Second, "two pods and two processes", func() bool {
		names := strings.Fields(s.kubectl("get", "pods", "-l", "app=away", "-o", "jsonpath={.items[*].metadata.name}"))
		return len(names) == 2 && processesOf(t, seconds) == 2
	})
}

func (s *site) podsOn(node string) int {
	return len(strings.Fields(s.kubectl("get", "pods", "-l", "app=away", "--field-selector", "spec.nodeName="+node, "-o", "jsonpath={.items[*].metadata.name}")))
}

// readyOff counts the ready pods on other nodes than this one.
func (s *site) readyOff(node string) int {
	out := s.kubectl("get", "pods", "-l", "app=away", "--field-selector", "spec.nodeName!="+node, "-o",
		`jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
	return strings.Count(out, "True")
}

// cable is the machine's end of the second node's link, as the cluster's number names it.
func (s *site) cable() string {
	raw, err := os.ReadFile(filepath.Join(s.dir, "data", s.name, "cluster.json"))
	var place struct{ Index int }
	if err == nil {
		err = json.Unmarshal(raw, &place)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("proa%d-n2", place.Index)
}

// processesOf counts the processes on this machine that sleep for just so long.
func processesOf(t *testing.T, seconds string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && strings.HasSuffix(string(raw), "sleep\x00"+seconds+"\x00") {
			count++
		}
	}
	return count
}
