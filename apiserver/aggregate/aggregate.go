// Package aggregate serves group versions that another server answers for: those that an
// APIService with a service names. It keeps the catalog's list of them, their conditions, and
// the APIServices that stand for what is answered here.
//
// The one idea: a backend is one address, one identity and one trust; the same connection
// asks it whether it is there, what it serves, and carries the requests. What it serves is
// taken from the answer to the check, so that a group version is never announced without
// having been asked for.
//
// Tickless but for one check a minute of each backend: changes of APIServices, services,
// endpoints and requests that fail cause the others.
//
// Used by cluster; the catalog's Remote.Handler is called by apiserver.
package aggregate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"sort"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apiregistration"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/store"
)

// How often, and how many at once.
const (
	refresh     = time.Minute // a backend that answers is asked again after this, and up to a tenth more
	retryFirst  = 5 * time.Millisecond
	retryLast   = 30 * time.Second
	workers     = 8
	maxBackends = 1000 // APIServices with a service that are followed
)

// Resources that are read.
var (
	apiServices = schema.GroupResource{Group: apiregistrationv1.GroupName, Resource: "apiservices"}
	services    = corev1.Resource("services")
	slices      = discoveryv1.Resource("endpointslices")
)

// Config of an Aggregator.
type Config struct {
	Store   *store.Store // must serve apiservices, services and endpointslices
	Catalog *catalog.Catalog
	// ClientCertificate shows backends that this server may speak for its users: it is signed by
	// the authority in the config map extension-apiserver-authentication.
	ClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	// CustomLoaded is closed once the catalog holds all custom resources that are stored; until
	// then none of their APIServices is removed. nil: it does already.
	CustomLoaded <-chan struct{}
	Log          *slog.Logger
	Now          func() time.Time // default time.Now
}

// Aggregator follows the APIServices.
type Aggregator struct {
	cfg    Config
	log    *slog.Logger
	reader api.Reader
	stored *store.Collection // of APIServices
	local  chan struct{}     // the catalog's own kinds have changed

	publishing sync.Mutex

	mu       sync.Mutex
	queue    workqueue.TypedRateLimitingInterface[string] // of this Run
	backends map[string]*backend                          // by name of the APIService
	users    map[string]map[string]bool                   // APIServices by namespace/name of their service
	seen     map[string]*apiregistrationv1.APIService
	own      map[schema.GroupVersion]bool // what the catalog answers itself
}

// New makes an Aggregator; Run starts it.
func New(cfg Config) (*Aggregator, error) {
	if cfg.Store == nil || cfg.Catalog == nil || cfg.Log == nil {
		return nil, errors.New("aggregate: Store, Catalog and Log are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Aggregator{
		cfg: cfg, log: cfg.Log, reader: cfg.Store.Reader(), local: make(chan struct{}, 1),
		backends: map[string]*backend{}, users: map[string]map[string]bool{},
		seen: map[string]*apiregistrationv1.APIService{},
	}
	for _, gr := range []schema.GroupResource{apiServices, services, slices} {
		c, ok := cfg.Store.Collection(gr)
		if !ok {
			return nil, fmt.Errorf("aggregate: %s is not stored", gr)
		}
		if gr == apiServices {
			a.stored = c
		}
	}
	cfg.Catalog.Follow(a.follow)
	a.announce()
	return a, nil
}

// announce shows what is registered already, as stale: from the first request on it must be
// known that there is more than what is answered here, or somebody takes a namespace for empty.
func (a *Aggregator) announce() {
	found := false
	for _, obj := range a.reader.List(apiServices, "") {
		if s, ok := obj.(*apiregistrationv1.APIService); ok && s.Spec.Service != nil {
			_, err := a.backendOf(s)
			found = found || err == nil // what is wrong with it, its condition will say
		}
	}
	if found {
		a.publish()
	}
}

// follow notes what is answered here, for register.
func (a *Aggregator) follow(state *catalog.State) {
	own := map[schema.GroupVersion]bool{}
	for _, k := range state.Kinds {
		own[k.GroupVersion()] = own[k.GroupVersion()] || isCustom(k)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if sameVersions(a.own, own) {
		return // a change of what others answer
	}
	a.own = own
	a.localChanged()
}

func sameVersions(a, b map[schema.GroupVersion]bool) bool {
	if len(a) != len(b) {
		return false
	}
	for gv, custom := range a {
		if other, ok := b[gv]; !ok || other != custom {
			return false
		}
	}
	return true
}

// Run follows until ctx ends.
func (a *Aggregator) Run(ctx context.Context) error {
	queue := a.begin()
	defer queue.ShutDown()
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	failed := make(chan error, 4)
	start := func(run func(context.Context) error) {
		group.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				failed <- err
			}
		})
	}
	start(func(ctx context.Context) error { return a.watch(ctx, apiServices, a.apiServiceChanged) })
	start(func(ctx context.Context) error { return a.watch(ctx, services, a.serviceChanged) })
	start(func(ctx context.Context) error { return a.watch(ctx, slices, a.sliceChanged) })
	start(a.register)
	for range workers {
		group.Go(func() { a.work(ctx, queue) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	queue.ShutDown()
	group.Wait()
	a.closeAll()
	return err
}

// begin makes the queue of a run, and forgets what one before has seen.
func (a *Aggregator) begin() workqueue.TypedRateLimitingInterface[string] {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryFirst, retryLast))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = queue
	clear(a.seen)
	a.localChanged()
	return queue
}

// watch calls changed with each object that comes, changes or goes.
func (a *Aggregator) watch(ctx context.Context, gr schema.GroupResource, changed func(obj api.Object, gone bool)) error {
	c, ok := a.cfg.Store.Collection(gr)
	if !ok {
		return fmt.Errorf("watch %s: not stored", gr)
	}
	for ctx.Err() == nil {
		// A watcher that was too slow begins again: from the present state.
		w, err := c.Watch(ctx, store.WatchOptions{Since: store.Any})
		if err != nil {
			return fmt.Errorf("watch %s: %w", gr, err)
		}
		for {
			events, err := w.Next(ctx)
			if err != nil {
				break
			}
			for _, e := range events {
				if e.Item != nil {
					changed(e.Item.Object(), e.Type == store.Deleted)
				}
			}
		}
		w.Stop()
	}
	return nil
}

// apiServiceChanged has an APIService looked at, unless its status alone changed: what
// each check writes there must not cause the next.
func (a *Aggregator) apiServiceChanged(obj api.Object, gone bool) {
	s, ok := obj.(*apiregistrationv1.APIService)
	if !ok {
		return
	}
	if s.Labels[managedLabel] == always {
		a.localChanged()
	}
	a.mu.Lock()
	old := a.seen[s.Name]
	a.seen[s.Name] = s
	if gone {
		delete(a.seen, s.Name)
	}
	queue := a.queue
	a.mu.Unlock()
	if gone || old == nil || old.UID != s.UID || !reflect.DeepEqual(old.Spec, s.Spec) || len(s.Status.Conditions) < len(old.Status.Conditions) {
		queue.Add(s.Name)
	}
}

func (a *Aggregator) serviceChanged(obj api.Object, _ bool) {
	a.touched(obj.GetNamespace() + "/" + obj.GetName())
}

func (a *Aggregator) sliceChanged(obj api.Object, _ bool) {
	if name := obj.GetLabels()[discoveryv1.LabelServiceName]; name != "" {
		a.touched(obj.GetNamespace() + "/" + name)
	}
}

// touched has the users of a service checked.
func (a *Aggregator) touched(service string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name := range a.users[service] {
		a.backends[name].moved()
		a.queue.Add(name)
	}
}

func (a *Aggregator) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string]) {
	for {
		name, stop := queue.Get()
		if stop {
			return
		}
		switch again, err := a.sync(ctx, name); {
		case ctx.Err() != nil:
		case err != nil:
			a.log.Debug("check an APIService", "name", name, "err", err)
			queue.AddRateLimited(name)
		default:
			queue.Forget(name)
			if again {
				queue.AddAfter(name, refresh+rand.N(refresh/10))
			}
		}
		queue.Done(name)
	}
}

// sync brings one APIService's backend, condition and place in the catalog up to date; an
// error has it tried again, again says that it must be looked at from time to time.
func (a *Aggregator) sync(ctx context.Context, name string) (again bool, err error) {
	obj, _ := a.reader.Get(apiServices, "", name)
	s, ok := obj.(*apiregistrationv1.APIService)
	if !ok || s.Spec.Service == nil || s.DeletionTimestamp != nil {
		a.drop(name)
		if ok && s.Spec.Service == nil {
			return false, a.setCondition(ctx, s, apiregistration.Local())
		}
		return false, nil
	}
	b, err := a.backendOf(s)
	if err != nil {
		return false, a.setCondition(ctx, s, failed("FailedDiscoveryCheck", err.Error()))
	}
	if !b.isShown() {
		a.publish() // a check takes its time
	}
	found := a.check(ctx, b)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if b.learn(found) {
		a.publish()
	}
	if err := a.setCondition(ctx, s, found.condition); err != nil {
		return false, err
	}
	if found.condition.Status != apiregistrationv1.ConditionTrue {
		return false, errors.New(found.condition.Message)
	}
	return true, nil
}

// publish gives the catalog the present list. It is called by one at a time, so that the
// last list is the newest; mu is free meanwhile, since the catalog calls follow.
func (a *Aggregator) publish() {
	a.publishing.Lock()
	defer a.publishing.Unlock()
	a.cfg.Catalog.SetRemote(a.remotes())
}

func (a *Aggregator) remotes() []catalog.Remote {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]catalog.Remote, 0, len(a.backends))
	for _, b := range a.backends {
		list = append(list, b.remote())
	}
	sort.Slice(list, func(i, j int) bool { return list[i].String() < list[j].String() })
	return list
}
