// Package nodelifecycle watches over the nodes: it marks those that have fallen silent,
// keeps new pods away from those in trouble by taints, and makes pods leave the taints
// they do not tolerate.
//
// The one idea: a node's silence is measured by this process's own clock from the last
// sign it noticed itself, one waiting key per node stands for the deadline, and before
// a node is given up for its silence all the others are counted: when they look silent
// too, the fault is likelier here, and nobody is evicted.
//
// Used by controllers.All.
package nodelifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

const (
	defaultGrace = 40 * time.Second
	startGrace   = time.Minute // for a node that has never posted its status
)

// Controller is the loop over nodes, and the one over pods that must leave.
type Controller struct {
	*loop.Loop[string]
	deps     loop.Deps
	nodes    corelisters.NodeLister
	podsOf   func(node string) []*corev1.Pod
	recorder record.EventRecorder
	evictor  *evictor
	tracker  *tracker

	mu      sync.Mutex
	waiting map[string]bool // nodes whose zone does not allow to give them up now

	// Of the one worker.
	was    census
	pace   pace
	marked map[string]bool // unreachable nodes whose pods have been marked
}

// New registers the informers.
func New(deps loop.Deps) (*Controller, error) {
	if deps.NodeGracePeriod <= 0 {
		deps.NodeGracePeriod = defaultGrace
	}
	core := deps.Informers.Core().V1()
	podsOf, err := loop.PodsByNode(core.Pods().Informer())
	if err != nil {
		return nil, err
	}
	c := &Controller{
		deps: deps, nodes: core.Nodes().Lister(), podsOf: podsOf, recorder: deps.Recorder("node-controller"),
		tracker: newTracker(deps.NodeGracePeriod),
		waiting: map[string]bool{}, was: census{}, pace: pace{}, marked: map[string]bool{},
	}
	c.Loop = loop.New("nodelifecycle", deps, c.reconcile)
	if c.evictor, err = newEvictor(deps, podsOf); err != nil {
		return nil, err
	}
	c.Watch(core.Nodes().Informer(), func(obj any) []string {
		k, _ := loop.KeyOf(obj)
		return []string{k.Name}
	})
	c.Watch(deps.Informers.Coordination().V1().Leases().Informer(), c.lease)
	c.Needs(core.Pods().Informer())
	return c, nil
}

// Run watches until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	var evicting error
	group.Go(func() {
		defer stop()
		evicting = c.evictor.Run(ctx, 4)
	})
	// One worker: giving nodes up has one order.
	err := c.Loop.Run(ctx, 1)
	stop()
	group.Wait()
	return errors.Join(err, evicting)
}

// lease notes a renewal. That alone asks for no work, but when it ends a doubt that kept
// other nodes from being given up.
func (c *Controller) lease(obj any) []string {
	lease, ok := obj.(*coordinationv1.Lease)
	if !ok || lease.Namespace != corev1.NamespaceNodeLease || lease.Spec.RenewTime == nil {
		return nil
	}
	if !c.tracker.renewed(lease.Name, *lease.Spec.RenewTime, c.deps.Clock.Now()) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for name := range c.waiting {
		out = append(out, name)
	}
	clear(c.waiting)
	return out
}

func (c *Controller) reconcile(ctx context.Context, name string) error {
	node, err := c.nodes.Get(name)
	if err != nil {
		c.tracker.forget(name)
		delete(c.marked, name)
		c.zones()
		return loop.Gone(err)
	}
	now := c.deps.Clock.Now()
	seen, changed := c.tracker.observe(node, now)
	if changed {
		c.zones()
	}
	unknown, err := c.silent(ctx, node, seen, now)
	if unknown || err != nil {
		return err // the change comes back as an event
	}
	if err := c.taint(ctx, node, now); err != nil {
		return err
	}
	return c.markPods(ctx, node)
}

// silent writes the conditions of a node whose time is over, or waits for that time.
func (c *Controller) silent(ctx context.Context, node *corev1.Node, seen, now time.Time) (bool, error) {
	ready, grace := condition(node, corev1.NodeReady), c.deps.NodeGracePeriod
	if ready == nil {
		grace = max(grace, startGrace)
	}
	over := now.Sub(seen) - grace
	if over < 0 {
		c.AddAfter(node.Name, -over)
		return false, nil
	}
	changes := unknownConditions(node, now)
	if len(changes) == 0 {
		return false, nil
	}
	if over > grace/4 && c.NumRequeues(node.Name) == 0 {
		// The deadline was noticed far too late: this process stood still, and has not read
		// what the nodes sent meanwhile.
		c.tracker.forgive(now)
		c.AddAfter(node.Name, grace)
		return false, nil
	}
	err := c.patch(ctx, node, map[string]any{"status": map[string]any{"conditions": changes}}, "status")
	if err == nil && ready != nil && ready.Status == corev1.ConditionTrue {
		c.recorder.Event(reference(node), corev1.EventTypeNormal, "NodeNotReady", "Node "+node.Name+" status is now: NodeNotReady")
	}
	return true, loop.Gone(err)
}

// zones looks at the state of all zones again, and at the nodes that it decides on when it
// has changed.
func (c *Controller) zones() {
	now := c.deps.Clock.Now()
	is := c.tracker.census(now, false)
	if is.equal(c.was) {
		return
	}
	if c.was.allFull() && !is.allFull() {
		// Nodes come back one after the other; none is given up for having been the last.
		c.tracker.forgive(now)
	}
	c.was = is
	for _, name := range c.tracker.unready() {
		c.Add(name)
	}
}

// taint writes our part of the node's taints.
func (c *Controller) taint(ctx context.Context, node *corev1.Node, now time.Time) error {
	taints, changed := mergeTaints(node.Spec.Taints, wantedTaints(node, c.mayExpel(node, now)), now)
	if !changed {
		return nil
	}
	err := c.patch(ctx, node, map[string]any{"spec": map[string]any{"taints": taints}})
	return loop.Gone(err)
}

// mayExpel says whether pods are to leave the node, if its readiness asks for it.
func (c *Controller) mayExpel(node *corev1.Node, now time.Time) bool {
	c.wait(node.Name, false)
	if expelKey(node) == "" {
		return false
	}
	if c.was.allFull() {
		return false // taints that are there go, too
	}
	if expelled(node) {
		return true
	}
	zone := c.tracker.zone(node.Name)
	rate := c.tracker.census(now, true).rate(zone)
	if rate == 0 {
		c.wait(node.Name, true)
		return false
	}
	ok, wait := c.pace.take(zone, rate, now)
	if !ok {
		c.AddAfter(node.Name, wait)
	}
	return ok
}

func (c *Controller) wait(node string, waits bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if waits {
		c.waiting[node] = true
	} else {
		delete(c.waiting, node)
	}
}

// patch writes to the node as it was seen, or not at all.
func (c *Controller) patch(ctx context.Context, node *corev1.Node, change map[string]any, subresource ...string) error {
	change["metadata"] = map[string]any{"resourceVersion": node.ResourceVersion, "uid": node.UID}
	body, err := json.Marshal(change)
	if err != nil {
		return err
	}
	_, err = c.deps.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, subresource...)
	return err
}

// reference is how events name a node: kubectl finds a node's events by its name as uid.
func reference(node *corev1.Node) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: types.UID(node.Name)}
}
