// Package garbagecollector deletes objects whose owners are gone, and carries out
// foreground deletion and orphaning.
//
// The one idea: a graph of who owns whom, fed by the informers, says which few objects are
// worth a look; an owner that is seen and stays costs nothing. What is deleted is deleted
// at the version that was judged, so that a late change of the owners wins.
//
// Used by controllers.All.
package garbagecollector

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

// syncLimit is how long the first look at all kinds may take; a kind that cannot be
// listed must not keep the others from being collected.
const syncLimit = 30 * time.Second

// Controller is the collector. Its keys are uids.
type Controller struct {
	*loop.Loop[types.UID]
	deps      loop.Deps
	recorder  record.EventRecorder
	graph     *graph
	resources *loop.Loop[string]

	life       context.Context // of Run: informers of kinds found later live as long
	group      sync.WaitGroup
	once       sync.Once
	discovered chan struct{} // closed when the kinds are known

	mu      sync.Mutex
	kinds   map[schema.GroupKind]kind // all that are served
	sources map[schema.GroupVersionResource]source
	found   map[lookup]time.Time // owners seen alive that no event has shown yet
}

// New registers nothing yet: which kinds there are is known when the server answers, in Run.
func New(deps loop.Deps) (*Controller, error) {
	if deps.Metadata == nil || deps.Discovery == nil {
		return nil, errors.New("garbagecollector: no metadata or discovery client")
	}
	c := &Controller{
		deps: deps, recorder: deps.Recorder("garbage-collector-controller"), graph: newGraph(), discovered: make(chan struct{}),
		sources: map[schema.GroupVersionResource]source{}, found: map[lookup]time.Time{},
	}
	c.Loop = loop.New("garbagecollector", deps, c.reconcile)
	c.resources = loop.New("garbagecollector-resources", deps, c.discover)
	return c, nil
}

// Run collects until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer c.group.Wait()
	defer stop()
	c.life = ctx
	c.resources.Add("")
	var discovering error
	c.group.Go(func() { discovering = c.resources.Run(ctx, 1) })
	select {
	case <-ctx.Done():
	case <-c.discovered:
		c.wait(ctx)
	}
	err := c.Loop.Run(ctx, 8)
	stop()
	c.group.Wait()
	return errors.Join(err, discovering)
}

// wait gives the informers time to show what there is.
func (c *Controller) wait(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, syncLimit)
	defer stop()
	var all []cache.InformerSynced
	c.mu.Lock()
	for _, s := range c.sources {
		all = append(all, s.synced)
	}
	c.mu.Unlock()
	if !cache.WaitForCacheSync(ctx.Done(), all...) && !errors.Is(ctx.Err(), context.Canceled) {
		c.deps.Log.Warn("some kinds cannot be listed; collecting without them", "controller", "garbagecollector")
	}
}

func (c *Controller) add(uids []types.UID) {
	for _, uid := range uids {
		c.Add(uid)
	}
}
