// Package custom serves custom resources: it makes kinds of CustomResourceDefinitions and puts them into
// the catalog.
//
// The one idea: a definition that was accepted becomes ordinary kinds, one for each version that is served,
// and everything else is the machinery that all kinds share. What is written into a definition's
// status follows what is served already: who sees Established is answered.
//
// One goroutine follows the definitions and does all of this in the order in which they
// change; only the deletion of the objects of a definition that goes has one of its own. Used by cluster.
package custom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apiextensions"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/apiserver/custom/convert"
	"github.com/proa-dev/proa/store"
)

// retryAfter is how long after a failure (of the store) a definition is tried again.
const retryAfter = time.Second

// Config of Definitions.
type Config struct {
	Store   *store.Store     // serves the definitions already
	Catalog *catalog.Catalog // what the API serves
	Env     *api.Env         // its Writer deletes the objects of a definition that goes
	Resolve convert.Resolve  // finds the services of conversion webhooks; nil: there are none
	Log     *slog.Logger
}

// Definitions follows the definitions and serves what they define.
type Definitions struct {
	cfg         Config
	log         *slog.Logger
	definitions *store.Collection
	ready       chan struct{}
	readyOnce   sync.Once

	// Of Run's goroutine.
	known     map[string]*apiextensions.Definition // as they are, or will be once the status is written
	resources map[string]*resource                 // what is served, by the definition's name
	cleaning  map[types.UID]bool

	again   chan string // names to look at once more
	cleaned chan types.UID
	group   sync.WaitGroup
}

// New starts nothing.
func New(cfg Config) (*Definitions, error) {
	if cfg.Store == nil || cfg.Catalog == nil || cfg.Env == nil || cfg.Log == nil {
		return nil, errors.New("custom: Store, Catalog, Env and Log are required")
	}
	if cfg.Resolve == nil {
		cfg.Resolve = func(namespace, name string, _ int32) (string, error) {
			return "", fmt.Errorf("service %s/%s cannot be reached from here", namespace, name)
		}
	}
	c, ok := cfg.Store.Collection(apiextensions.GroupResource)
	if !ok {
		return nil, errors.New("custom: definitions are not stored")
	}
	return &Definitions{
		cfg: cfg, log: cfg.Log.With("part", "custom"), definitions: c, ready: make(chan struct{}),
		known: map[string]*apiextensions.Definition{}, resources: map[string]*resource{}, cleaning: map[types.UID]bool{},
		again: make(chan string, 1), cleaned: make(chan types.UID, 1),
	}, nil
}

// Ready is closed when everything that was defined before is served.
func (d *Definitions) Ready() <-chan struct{} { return d.ready }

// Run serves until ctx ends. What is served stays so afterwards.
func (d *Definitions) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer d.group.Wait()
	defer stop()
	w, err := d.definitions.Watch(ctx, store.WatchOptions{Since: store.Latest, InitialEvents: true})
	if err != nil {
		return fmt.Errorf("watch definitions: %w", err)
	}
	defer w.Stop()
	clear(d.known) // of a run before; what is served is kept and compared
	clear(d.cleaning)
	batches, failed := make(chan []store.Event), make(chan error, 1)
	d.group.Go(func() { failed <- follow(ctx, w, batches) })
	present := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch definitions: %w", err)
		case events := <-batches:
			d.take(ctx, events, present)
		case name := <-d.again:
			d.work(ctx, []string{name})
		case uid := <-d.cleaned:
			delete(d.cleaning, uid)
		}
	}
}

// follow hands on what a watcher sees.
func follow(ctx context.Context, w *store.Watcher, batches chan<- []store.Event) error {
	for {
		events, err := w.Next(ctx)
		if err != nil {
			return err
		}
		select {
		case batches <- slices.Clone(events):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take looks at a batch of changes. Until the first state is complete, nothing is thought gone, and
// nothing said.
func (d *Definitions) take(ctx context.Context, events []store.Event, present map[string]bool) {
	var names []string
	for _, e := range events {
		if e.Type == store.Bookmark {
			if e.InitialEnd {
				for name := range d.resources {
					if !present[name] { // gone while nobody looked
						names = append(names, name)
					}
				}
				defer d.readyOnce.Do(func() { close(d.ready) })
			}
			continue
		}
		_, name := e.Item.Key()
		present[name] = true
		names = append(names, name)
		def, ok := e.Item.Object().(*apiextensions.Definition)
		if e.Type == store.Deleted || !ok {
			names = append(names, d.waiting(d.known[name])...)
			delete(d.known, name)
			continue
		}
		d.known[name] = def
	}
	d.work(ctx, names)
}

// work brings the named definitions where they should be: first what is served, then what
// they say of themselves.
func (d *Definitions) work(ctx context.Context, names []string) {
	var changed []string
	was := map[string]*apiextensions.Definition{} // what failed is decided again from there
	broken := map[string]bool{}                   // not again in this round
	serving := false
	var gone []schema.GroupResource
	for i := 0; i < len(names); i++ { // grows
		name := names[i]
		if broken[name] {
			continue
		}
		def := d.known[name]
		if def == nil {
			if r := d.resources[name]; r != nil {
				delete(d.resources, name)
				gone, serving = append(gone, r.storage.GroupResource()), true
			}
			continue
		}
		next := d.settle(def)
		if next != def {
			d.known[name], was[name] = next, def
			names = append(names, d.waiting(next)...)
		}
		if took, err := d.serve(ctx, next); err != nil {
			d.known[name], broken[name] = def, true
			d.failed(ctx, name, "serve custom resources", err)
			continue
		} else if took {
			serving = true
		}
		if next != def {
			changed = append(changed, name)
		}
	}
	if serving {
		d.publish()
	}
	for _, gr := range gone {
		d.cfg.Store.Drop(gr)
	}
	for _, name := range changed {
		if err := d.write(ctx, d.known[name]); err != nil {
			d.known[name] = was[name]
			d.failed(ctx, name, "write the status of a definition", err)
		}
	}
	for _, name := range names {
		d.clean(ctx, d.known[name])
	}
}

// waiting are the definitions of the same group whose names were taken by others.
func (d *Definitions) waiting(changed *apiextensions.Definition) (names []string) {
	if changed == nil {
		return nil
	}
	for name, other := range d.known {
		if name != changed.Name && other.Spec.Group == changed.Spec.Group && !apiextensions.IsTrue(other, apiextensionsv1.NamesAccepted) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// serve makes the kinds of a definition, if they are not there as they should be; took says that there
// is something to publish.
func (d *Definitions) serve(ctx context.Context, def *apiextensions.Definition) (took bool, err error) {
	if !apiextensions.IsTrue(def, apiextensionsv1.Established) {
		return false, nil
	}
	old := d.resources[def.Name]
	if old != nil && old.same(def) {
		return false, nil
	}
	gr := groupResource(def)
	for _, k := range d.cfg.Catalog.State().Kinds {
		if k.Custom == nil && k.GroupResource() == gr {
			return false, fmt.Errorf("%s is built in", gr)
		}
	}
	convert, err := d.converter(def)
	if err != nil {
		d.log.Warn("a conversion webhook cannot be called", "definition", def.Name, "err", err)
		convert = refuse(err)
	}
	r, err := newResource(def, convert)
	if err != nil {
		return false, err
	}
	if _, stored := d.cfg.Store.Collection(gr); !stored {
		if _, err := d.cfg.Store.Serve(ctx, r.storage); err != nil {
			return false, err
		}
	}
	d.resources[def.Name] = r
	return true, nil
}

func (d *Definitions) converter(def *apiextensions.Definition) (converter, error) {
	c := def.Spec.Conversion
	if c == nil || c.Strategy != apiextensionsv1.WebhookConverter {
		return rename, nil
	}
	w, err := convert.New(c.Webhook, d.cfg.Resolve)
	if err != nil {
		return nil, err
	}
	return w.Convert, nil
}

// publish shows what is served to everybody.
func (d *Definitions) publish() {
	var kinds []*api.Kind
	for _, name := range slices.Sorted(maps.Keys(d.resources)) {
		kinds = append(kinds, d.resources[name].kinds...)
	}
	d.cfg.Catalog.SetCustom(kinds)
}

// failed logs, and looks again later.
func (d *Definitions) failed(ctx context.Context, name, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	d.log.Error(what, "definition", name, "err", err)
	d.later(ctx, func() { d.sendAgain(ctx, name) })
}

func (d *Definitions) sendAgain(ctx context.Context, name string) {
	select {
	case d.again <- name:
	case <-ctx.Done():
	}
}

// later does something after a pause, unless ctx ends before.
func (d *Definitions) later(ctx context.Context, do func()) {
	d.group.Go(func() {
		t := time.NewTimer(retryAfter)
		defer t.Stop()
		select {
		case <-t.C:
			do()
		case <-ctx.Done():
		}
	})
}
