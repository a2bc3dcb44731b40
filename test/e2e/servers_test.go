package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// TestServers loses each of three servers in turn, first the leader by kill -9, then all by clean
// restarts under a writer: writes go on, pods start, the node that joined the first one stays.
func TestServers(t *testing.T) {
	s := up(t, "--servers=3", "--nodes=4")
	h := &servers{site: s, dirs: []string{
		filepath.Join(s.dir, "data", s.name),
		filepath.Join(s.dir, "data", s.name, "servers", "2", s.name), filepath.Join(s.dir, "data", s.name, "servers", "3", s.name),
	}}
	h.connect()
	s.loadDemo()
	s.kubectl("create", "deployment", "web", "--image=proa.local/demo:v1", "--replicas=4")
	s.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	contains(t, "member ls", s.proa("member", "ls"), "survives the loss of 1", "leader")

	h.killLeader()
	h.rotateSecrets()
	h.rollingRestart()
	contains(t, "member ls", s.proa("member", "ls"), "survives the loss of 1")
}

// servers are three of them on this machine, the first one's node is the machine's own.
type servers struct {
	*site
	dirs    []string // the clusters' folders, of each server
	clients []kubernetes.Interface
}

func (h *servers) connect() {
	h.t.Helper()
	for i := range h.dirs {
		config := h.kubeconfig
		if i > 0 {
			config = filepath.Join(filepath.Dir(h.dirs[i]), "etc", h.name+".kubeconfig")
		}
		cfg, err := clientcmd.BuildConfigFromFlags("", config)
		if err != nil {
			h.t.Fatal(err)
		}
		cfg.QPS, cfg.Timeout = -1, 2*time.Second
		client, err := kubernetes.NewForConfig(cfg)
		if err != nil {
			h.t.Fatal(err)
		}
		h.clients = append(h.clients, client)
	}
}

func (h *servers) pidOf(i int) int {
	h.t.Helper()
	return h.pid(process(i))
}

// process is the name of a server's process.
func process(i int) string {
	if i == 0 {
		return "server"
	}
	return "server-" + strconv.Itoa(i+1)
}

// leader is the number of the server that leads, as server i knows it; -1: none.
func (h *servers) leader(i int) int {
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Second)
	defer cancel()
	raw, err := h.clients[i].Discovery().RESTClient().Get().AbsPath("/proa/servers").DoRaw(ctx)
	if err != nil {
		return -1
	}
	var all []struct {
		Name   string
		Leader bool
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		h.t.Error(err)
	}
	for _, one := range all {
		if !one.Leader {
			continue
		}
		for n := 2; n <= 3; n++ {
			if strings.HasSuffix(one.Name, "-"+strconv.Itoa(n)) {
				return n - 1
			}
		}
		return 0
	}
	return -1
}

// killLeader kills the server that leads, sees that all goes on without it, and starts it again.
func (h *servers) killLeader() {
	t := h.t
	t.Helper()
	dead := h.leader(0)
	if dead < 0 {
		t.Fatal("nobody leads")
	}
	other := (dead + 1) % 3
	client := h.clients[other]
	agent := h.nodes()[3]
	lease := h.renewed(client, agent)
	args := h.args(dead)
	if err := syscall.Kill(h.pidOf(dead), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	h.write(client, "after-kill")
	wrote := time.Since(begun)
	if wrote > 15*time.Second { // two on a machine that is not busy
		t.Errorf("the first write after the leader was killed took %s", wrote)
	}
	if _, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	h.scale(client, 12)
	lost := h.nodes()[dead]
	eventually(t, 40*time.Second, "the new pods of the nodes that live are ready", func() bool { return h.readyElsewhere(client, lost) >= 5 })
	scaled := time.Since(begun)
	eventually(t, 30*time.Second, "the agent goes on reporting", func() bool { return h.renewed(client, agent).After(lease.Add(time.Second)) })
	eventually(t, 30*time.Second, "default/kubernetes leads to two servers", func() bool { return h.published(client) == 2 })
	out := time.Since(begun)
	h.askFromPod(other, lost)
	h.start(dead, args)
	eventually(t, 20*time.Second, "the killed server has what was written without it", func() bool {
		_, err := h.clients[dead].CoreV1().ConfigMaps("default").Get(t.Context(), "after-kill", metav1.GetOptions{})
		return err == nil
	})
	eventually(t, 20*time.Second, "default/kubernetes leads to three servers", func() bool { return h.published(client) == 3 })
	t.Logf("server %d killed: written after %s, pods ready after %s, out of default/kubernetes after %s", dead+1,
		wrote.Round(time.Millisecond), scaled.Round(time.Millisecond), out.Round(time.Millisecond))
}

// rotateSecrets changes the key at one server; the others read and write on.
func (h *servers) rotateSecrets() {
	t := h.t
	t.Helper()
	h.kubectl("create", "secret", "generic", "before", "--from-literal=a=b")
	h.proa("secrets", "rotate")
	for i, client := range h.clients {
		name := "after-" + strconv.Itoa(i)
		_, err := client.CoreV1().Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"a": "b"}}, metav1.CreateOptions{})
		if err != nil {
			t.Errorf("server %d: %v", i+1, err)
		}
		for j, other := range h.clients {
			for _, name := range []string{"before", name} {
				secret, err := other.CoreV1().Secrets("default").Get(t.Context(), name, metav1.GetOptions{})
				if err != nil || string(secret.Data["a"]) != "b" {
					t.Errorf("server %d reads %s after the key was changed: %v", j+1, name, err)
				}
			}
		}
	}
}

// rollingRestart ends and starts one server after the other under a writer.
func (h *servers) rollingRestart() {
	t := h.t
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &manyWriter{clients: h.clients}
	var done sync.WaitGroup
	done.Go(func() { w.run(ctx) })
	for i := range h.clients {
		args := h.args(i)
		pid := h.pidOf(i)
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "the server ends", func() bool { return syscall.Kill(pid, 0) != nil })
		h.start(i, args)
		eventually(t, 20*time.Second, "the server is ready again", func() bool {
			return h.clients[i].Discovery().RESTClient().Get().AbsPath("/readyz").Do(t.Context()).Error() == nil
		})
		eventually(t, 30*time.Second, "default/kubernetes leads to three servers", func() bool { return h.published(h.clients[i]) == 3 })
	}
	cancel()
	done.Wait()
	t.Logf("rolling restart: %d writes acknowledged, %d requests failed, %s at most without a write (%s)", w.wrote, w.failed, w.longest.Round(time.Millisecond), w.why)
	if w.longest > 10*time.Second { // a tenth of a second on a machine that is not busy
		t.Errorf("nothing could be written for %s", w.longest)
	}
	list, err := h.clients[0].CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{LabelSelector: "many=yes", ResourceVersion: ""})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) < w.wrote {
		t.Errorf("%d writes were acknowledged, %d are there", w.wrote, len(list.Items))
	}
}

// manyWriter creates objects at any server that answers; it goes to the next when one does not.
type manyWriter struct {
	clients       []kubernetes.Interface
	wrote, failed int
	longest       time.Duration
	why           string
}

func (w *manyWriter) run(ctx context.Context) {
	at, last := 0, time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("many-%06d", i), Labels: map[string]string{"many": "yes"}}}
		for ctx.Err() == nil {
			_, err := w.clients[at].CoreV1().ConfigMaps("default").Create(ctx, object, metav1.CreateOptions{})
			if err == nil || apierrors.IsAlreadyExists(err) {
				break
			}
			if ctx.Err() != nil {
				return
			}
			w.failed++
			w.why = err.Error()
			at = (at + 1) % len(w.clients)
			pause(ctx, 20*time.Millisecond)
		}
		if ctx.Err() == nil {
			w.wrote++
			w.longest = max(w.longest, time.Since(last))
			last = time.Now()
		}
		pause(ctx, 5*time.Millisecond)
	}
}

// args is how a server was started; those of a network namespace are entered into it again.
func (h *servers) args(i int) []string {
	h.t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(h.pidOf(i)) + "/cmdline")
	if err != nil {
		h.t.Fatal(err)
	}
	args := strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
	for _, a := range args {
		if path, ok := strings.CutPrefix(a, "--network-namespace="); ok {
			args = append([]string{"nsenter", "--net=" + path}, args...)
		}
	}
	return args
}

func (h *servers) start(i int, args []string) {
	h.t.Helper()
	log, err := os.OpenFile(filepath.Join(h.dirs[i], "log", process(i)+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }() // it is ended by the test, or by uninstall
}

// nodes are the names of the four nodes in their order.
func (h *servers) nodes() []string {
	h.t.Helper()
	host, err := os.Hostname()
	if err != nil {
		h.t.Fatal(err)
	}
	host = strings.ToLower(host)
	return []string{host, host + "-2", host + "-3", host + "-4"}
}

// write creates an object, as often as it takes.
func (h *servers) write(client kubernetes.Interface, name string) {
	h.t.Helper()
	eventually(h.t, 30*time.Second, "a write", func() bool {
		ctx, cancel := context.WithTimeout(h.t.Context(), time.Second)
		defer cancel()
		_, err := client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err == nil || apierrors.IsAlreadyExists(err)
	})
}

func (h *servers) scale(client kubernetes.Interface, replicas int32) {
	h.t.Helper()
	eventually(h.t, 10*time.Second, "the deployment is scaled", func() bool {
		scale, err := client.AppsV1().Deployments("default").GetScale(h.t.Context(), "web", metav1.GetOptions{})
		if err == nil {
			scale.Spec.Replicas = replicas
			_, err = client.AppsV1().Deployments("default").UpdateScale(h.t.Context(), "web", scale, metav1.UpdateOptions{})
		}
		return err == nil
	})
}

// readyElsewhere counts the pods that are ready on other nodes than the lost one.
func (h *servers) readyElsewhere(client kubernetes.Interface, lost string) int {
	n := 0
	for _, pod := range h.pods(client) {
		ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		if ready && pod.Spec.NodeName != lost {
			n++
		}
	}
	return n
}

func (h *servers) pods(client kubernetes.Interface) []corev1.Pod {
	list, err := client.CoreV1().Pods("default").List(h.t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		return nil
	}
	return list.Items
}

// renewed is when a node last said that it lives.
func (h *servers) renewed(client kubernetes.Interface, node string) time.Time {
	lease, err := client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(h.t.Context(), node, metav1.GetOptions{})
	if err != nil || lease.Spec.RenewTime == nil {
		return time.Time{}
	}
	return lease.Spec.RenewTime.Time
}

func (h *servers) published(client kubernetes.Interface) int {
	slice, err := client.DiscoveryV1().EndpointSlices("default").Get(h.t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil {
		return 0
	}
	return len(slice.Endpoints)
}

// askFromPod has a pod on a living node reach the API by its service.
func (h *servers) askFromPod(other int, lost string) {
	t := h.t
	t.Helper()
	config := h.kubeconfig
	if other > 0 {
		config = filepath.Join(filepath.Dir(h.dirs[other]), "etc", h.name+".kubeconfig")
	}
	for _, pod := range h.pods(h.clients[other]) {
		if pod.Spec.NodeName == lost || pod.Status.Phase != corev1.PodRunning {
			continue
		}
		out, err := h.with(t, "proa kubectl").environment("KUBECONFIG="+config).try("exec", pod.Name, "--", "/bin/busybox", "sh", "-c",
			"for i in 1 2 3 4 5 6 7 8; do busybox nc -w 2 $KUBERNETES_SERVICE_HOST 443 </dev/null || echo refused; done")
		if err != nil || strings.Contains(out, "refused") {
			t.Errorf("pod %s on %s asks the API: %v\n%s", pod.Name, pod.Spec.NodeName, err, out)
		}
		return
	}
	t.Error("no pod runs on a living node")
}
