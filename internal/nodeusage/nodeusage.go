// Package nodeusage is what the API server and a node's kubelet agree on about present use: who
// asks for the metrics.k8s.io API is answered with what nodes say at that time.
//
// The one idea: a node is asked once for all its pods, and says how much they use, not how
// much they have used: the node keeps the counters of the last question, and so knows both
// ends of the time it tells of.
//
// Used by apiserver/usage, apis/metrics and kubelet/server.
package nodeusage

import "time"

// Endpoint of the kubelet's API; GET answers a Report as JSON.
const Endpoint = "/metrics/usage"

// MostBytes bounds an encoded Report: some hundred bytes for each container of a node.
const MostBytes = 2 << 20

// Use is what something uses: an average over Window up to At, and memory at that time.
type Use struct {
	At     time.Time     `json:"at"`
	Window time.Duration `json:"window"` // nanoseconds
	CPU    uint64        `json:"cpu"`    // nanocores
	Memory uint64        `json:"memory"` // bytes of the working set
}

// Sane says whether there can be such a use. A node is not believed everything: its answer must not
// break that to somebody who asks about others.
func (u *Use) Sane() bool {
	return u.CPU < 1<<53 && u.Memory > 0 && u.Memory < 1<<60 && u.Window > 0 && u.At.Year() >= 1970 && u.At.Year() <= 9999
}

// Container is a container that runs.
type Container struct {
	Name string `json:"name"`
	Use
}

// Pod is a pod all of whose running containers have figures.
type Pod struct {
	Namespace  string      `json:"namespace"`
	Name       string      `json:"name"`
	UID        string      `json:"uid"`
	Containers []Container `json:"containers"`
}

// Report is one node's answer.
type Report struct {
	Node Use   `json:"node"`
	Pods []Pod `json:"pods"`
}
