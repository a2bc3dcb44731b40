// Package usage asks nodes what they and their pods use, when a client asks that.
//
// The one idea: a node is asked once for all who want to know at the same time, and its answer
// is good for those who ask a moment later. Nothing is asked, kept or awake while no client asks.
//
// Used by cluster, as what the kinds of metrics.k8s.io know.
package usage

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/proa-dev/proa/internal/nodeusage"
)

const (
	fresh   = 3 * time.Second         // how long an answer is good
	patient = 2500 * time.Millisecond // with a node, which may need a second to see how much is used
	atOnce  = 256                     // nodes that are asked at the same time
)

// Get fetches a path of a node's API; at most bytes of the answer are read.
type Get func(ctx context.Context, node, path string, most int64) ([]byte, error)

// Nodes is asked.
type Nodes struct {
	get   Get
	log   *slog.Logger
	slots chan struct{}

	mu    sync.Mutex
	known map[string]*answer
}

// answer of a node; report and at are set before done is closed.
type answer struct {
	done   chan struct{}
	report *nodeusage.Report // nil: it did not answer
}

// New makes one that asks by get.
func New(get Get, log *slog.Logger) *Nodes {
	return &Nodes{get: get, log: log, slots: make(chan struct{}, atOnce), known: map[string]*answer{}}
}

// Of answers what the nodes of these names say; those that do not answer in time are left out.
func (n *Nodes) Of(ctx context.Context, nodes []string) map[string]*nodeusage.Report {
	waiting := make(map[string]*answer, len(nodes))
	for _, name := range nodes {
		waiting[name] = n.ask(name)
	}
	out := make(map[string]*nodeusage.Report, len(nodes))
	for name, a := range waiting {
		select {
		case <-a.done:
			if a.report != nil {
				out[name] = a.report
			}
		case <-ctx.Done():
			return out
		}
	}
	return out
}

// ask begins to ask a node, unless somebody does or did. The question goes on when the one
// who asked first goes away: others may wait for it, and it is short.
func (n *Nodes) ask(name string) *answer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.known[name]; a != nil {
		return a
	}
	a := &answer{done: make(chan struct{})}
	n.known[name] = a
	go func() {
		n.slots <- struct{}{}
		defer func() { <-n.slots }()
		ctx, cancel := context.WithTimeout(context.Background(), patient)
		defer cancel()
		var err error
		if a.report, err = n.fetch(ctx, name); err != nil {
			n.log.Debug("ask a node what it uses", "node", name, "err", err)
		}
		close(a.done)
		time.AfterFunc(fresh, func() { n.forget(name, a) })
	}()
	return a
}

func (n *Nodes) forget(name string, a *answer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known[name] == a {
		delete(n.known, name)
	}
}

func (n *Nodes) fetch(ctx context.Context, name string) (*nodeusage.Report, error) {
	raw, err := n.get(ctx, name, nodeusage.Endpoint, nodeusage.MostBytes)
	if err != nil {
		return nil, err
	}
	out := &nodeusage.Report{}
	if err := json.Unmarshal(raw, out); err != nil {
		return nil, fmt.Errorf("decode what node %s uses: %w", name, err)
	}
	return out, nil
}
