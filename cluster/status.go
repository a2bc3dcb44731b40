package cluster

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Report is the state of a cluster as this machine sees it.
type Report struct {
	Lines    []ReportLine
	Problems []string // what is wrong, most important first
}

// ReportLine is one thing and how it is.
type ReportLine struct{ What, State, Detail string }

func (r *Report) add(what, state, format string, args ...any) {
	r.Lines = append(r.Lines, ReportLine{what, state, fmt.Sprintf(format, args...)})
}

func (r *Report) wrong(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// Status looks at processes, API, nodes, certificates and the store.
func Status(ctx context.Context, p *Place) *Report {
	r := &Report{}
	r.processes(p)
	client, err := adminClient(p)
	if err != nil {
		r.wrong("the API cannot be asked: %v", err)
	} else {
		r.cluster(ctx, client)
	}
	r.certificates(p)
	r.store(p)
	return r
}

// cluster asks the API; without a majority of servers it would not answer.
func (r *Report) cluster(ctx context.Context, client kubernetes.Interface) {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	if !r.servers(ctx, client) {
		return
	}
	r.api(ctx, client)
	r.encryption(ctx, client)
}

func (r *Report) processes(p *Place) {
	if pid := runningPid(p, p.server()); pid != 0 {
		r.add("server", "running", "pid %d, log %s", pid, p.Log(p.server()))
	} else {
		r.add("server", "stopped", "")
		r.wrong("the server does not run; 'proa up' starts it")
	}
	for _, f := range p.furthers() {
		if pid := runningPid(f, f.server()); pid != 0 {
			r.add(f.server(), "running", "pid %d, log %s", pid, f.Log(f.server()))
		}
	}
	for _, name := range runningProcesses(p) {
		if !p.isServer(name) {
			r.add("agent "+name, "running", "pid %d, log %s", runningPid(p, name), p.Log(name))
		}
	}
}

func (r *Report) api(ctx context.Context, client kubernetes.Interface) {
	begun := time.Now()
	raw, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Param("verbose", "").DoRaw(ctx)
	if err != nil {
		r.add("api", "down", "%v", err)
		r.wrong("the API does not answer as ready: %v", err)
		return
	}
	r.add("api", "ready", "answers in %s, %d checks passed", time.Since(begun).Round(100*time.Microsecond), strings.Count(string(raw), "[+]"))
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		r.wrong("the nodes cannot be listed: %v", err)
		return
	}
	for i := range nodes.Items {
		r.node(&nodes.Items[i])
	}
	pods, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		r.wrong("the pods cannot be listed: %v", err)
		return
	}
	count := map[corev1.PodPhase]int{}
	for _, pod := range pods.Items {
		count[pod.Status.Phase]++
	}
	var phases []string
	for phase, n := range count {
		phases = append(phases, fmt.Sprintf("%d %s", n, strings.ToLower(string(phase))))
	}
	sort.Strings(phases)
	r.add("pods", fmt.Sprint(len(pods.Items)), "%s", strings.Join(phases, ", "))
}

func (r *Report) node(n *corev1.Node) {
	state, detail := "unknown", ""
	for _, c := range n.Status.Conditions {
		switch {
		case c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue:
			state = "ready"
		case c.Type == corev1.NodeReady:
			state, detail = "not ready", c.Message
			r.wrong("node %s is not ready: %s", n.Name, c.Message)
		case c.Status == corev1.ConditionTrue:
			r.wrong("node %s: %s: %s", n.Name, c.Type, c.Message)
		}
	}
	if detail == "" {
		detail = fmt.Sprintf("%s, %s", n.Status.NodeInfo.ContainerRuntimeVersion, n.Status.NodeInfo.KernelVersion)
	}
	r.add("node "+n.Name, state, "%s", detail)
}

// certificates reads those in the cluster's folder; proa renews them by itself at two
// thirds of their life, so one that is nearly over is a fault.
func (r *Report) certificates(p *Place) {
	files, _ := filepath.Glob(filepath.Join(p.PKI(), "*.crt")) // the pattern is valid
	peers, _ := filepath.Glob(filepath.Join(p.PKI(), "etcd", "*.crt"))
	files = append(files, peers...)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			r.wrong("certificate %s: %v", file, err)
			continue
		}
		block, _ := pem.Decode(raw)
		if block == nil {
			r.wrong("certificate %s is damaged", file)
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			r.wrong("certificate %s: %v", file, err)
			continue
		}
		left := time.Until(cert.NotAfter)
		name, _ := strings.CutPrefix(file, p.PKI()+"/")
		r.add("certificate "+strings.TrimSuffix(name, ".crt"), "valid", "until %s", cert.NotAfter.Format(time.DateOnly))
		if left < cert.NotAfter.Sub(cert.NotBefore)/4 {
			r.wrong("certificate %s ends in %s and was not renewed", file, left.Round(time.Hour))
		}
	}
}

func (r *Report) store(p *Place) {
	var size int64
	dir := filepath.Join(p.Dir(), "etcd")
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		r.add("store", "elsewhere", "%v", err)
		return
	}
	r.add("store", "embedded etcd", "%s, %.1f MiB on disk", dir, float64(size)/(1<<20))
}
