package fairness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/google/uuid"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/flowcontrol"
	"github.com/proa-dev/proa/store"
)

var (
	schemaResource = schema.GroupResource{Group: flowcontrolv1.GroupName, Resource: "flowschemas"}
	levelResource  = schema.GroupResource{Group: flowcontrolv1.GroupName, Resource: "prioritylevelconfigurations"}
)

// settle is how long further changes are waited for before one is acted upon, and retry when
// a write is tried again.
const (
	settle = 20 * time.Millisecond
	retry  = 5 * time.Second
)

// Follow keeps the configuration in force that the store holds, the objects in it that every
// cluster has, and the schemas' conditions, until ctx ends.
func (f *Fairness) Follow(ctx context.Context, s *store.Store, log *slog.Logger) error {
	k := &keeper{f: f, log: log, reader: s.Reader(), changed: make(chan struct{}, 1)}
	var ok1, ok2 bool
	k.schemas, ok1 = s.Collection(schemaResource)
	k.levels, ok2 = s.Collection(levelResource)
	if !ok1 || !ok2 {
		return errors.New("fairness: its kinds are not stored")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 2)
	var group sync.WaitGroup
	for _, c := range []*store.Collection{k.schemas, k.levels} {
		group.Go(func() { failed <- k.watch(ctx, c) })
	}
	err := k.run(ctx, failed)
	cancel()
	group.Wait()
	return err
}

// keeper does what Follow says.
type keeper struct {
	f               *Fairness
	log             *slog.Logger
	reader          api.Reader
	schemas, levels *store.Collection
	changed         chan struct{}
}

func (k *keeper) watch(ctx context.Context, c *store.Collection) error {
	for ctx.Err() == nil {
		w, err := c.Watch(ctx, store.WatchOptions{Since: store.Any})
		if err != nil {
			return fmt.Errorf("watch %s: %w", c.Kind().Resource.Resource, err)
		}
		for {
			if _, err := w.Next(ctx); err != nil {
				break // too slow, or the end: from the present state again
			}
			k.signal()
		}
		w.Stop()
	}
	return nil
}

func (k *keeper) signal() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

func (k *keeper) run(ctx context.Context, failed <-chan error) error {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() == nil {
				return err
			}
		case <-k.changed:
			wait.Reset(settle)
		case <-wait.C:
			if err := k.apply(ctx); err != nil && ctx.Err() == nil {
				k.log.Warn("keep the configuration of priority and fairness", "err", err)
				wait.Reset(retry)
			}
		}
	}
}

// apply makes what is missing and puts what is stored in force.
func (k *keeper) apply(ctx context.Context) error {
	var errs []error
	for _, want := range append(flowcontrol.MandatoryLevels(), flowcontrol.SuggestedLevels()...) {
		errs = append(errs, keep(ctx, k, k.levels, levelResource, want, func(p *flowcontrolv1.PriorityLevelConfiguration) *flowcontrolv1.PriorityLevelConfigurationSpec {
			return &p.Spec
		}))
	}
	for _, want := range append(flowcontrol.MandatorySchemas(), flowcontrol.SuggestedSchemas()...) {
		errs = append(errs, keep(ctx, k, k.schemas, schemaResource, want, func(s *flowcontrolv1.FlowSchema) *flowcontrolv1.FlowSchemaSpec { return &s.Spec }))
	}
	var schemas []*flowcontrolv1.FlowSchema
	for _, obj := range k.reader.List(schemaResource, "") {
		if s, ok := obj.(*flowcontrolv1.FlowSchema); ok {
			schemas = append(schemas, s)
		}
	}
	var levels []*flowcontrolv1.PriorityLevelConfiguration
	for _, obj := range k.reader.List(levelResource, "") {
		if l, ok := obj.(*flowcontrolv1.PriorityLevelConfiguration); ok {
			levels = append(levels, l)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err // what is in force stays
	}
	p, dangling := compile(schemas, levels, k.f.core.seats)
	k.f.use(p)
	for _, s := range schemas {
		errs = append(errs, k.condition(ctx, s, dangling[s.Name]))
	}
	return errors.Join(errs...)
}

// keep creates an object that is missing, and gives one its spec back that is to be kept.
func keep[T api.Object, S any](ctx context.Context, k *keeper, c *store.Collection, gr schema.GroupResource, want T, spec func(T) *S) error {
	obj, ok := k.reader.Get(gr, "", want.GetName())
	if !ok {
		want.SetUID(types.UID(uuid.NewString()))
		want.SetCreationTimestamp(metav1.Now().Rfc3339Copy())
		want.SetGeneration(1)
		if _, err := c.Create(ctx, want); err != nil && !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("create %s: %w", want.GetName(), err)
		}
		return nil
	}
	have, typed := obj.(T)
	if !typed || !autoUpdated(have, gr) || equality.Semantic.DeepEqual(spec(have), spec(want)) {
		return nil
	}
	_, err := c.Update(ctx, "", want.GetName(), func(cur *store.Item) (api.Object, error) {
		now, ok := cur.Object().(T)
		if !ok || equality.Semantic.DeepEqual(spec(now), spec(want)) {
			return nil, nil
		}
		now = now.DeepCopyObject().(T)
		*spec(now) = *spec(want)
		now.SetGeneration(now.GetGeneration() + 1)
		return now, nil
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("update %s: %w", want.GetName(), err)
	}
	return nil
}

// autoUpdated says whether an object is kept as it was: unless its annotation says otherwise,
// and without one until somebody changes it.
func autoUpdated(obj api.Object, gr schema.GroupResource) bool {
	if gr == levelResource && obj.GetName() == flowcontrolv1.PriorityLevelConfigurationNameExempt {
		return false // its shares are the administrator's, the rest cannot be changed
	}
	switch obj.GetAnnotations()[flowcontrolv1.AutoUpdateAnnotationKey] {
	case "true":
		return true
	case "false":
		return false
	}
	return obj.GetGeneration() <= 1
}

// condition says in a schema's status whether its level is there.
func (k *keeper) condition(ctx context.Context, s *flowcontrolv1.FlowSchema, dangling bool) error {
	level := s.Spec.PriorityLevelConfiguration.Name
	c := flowcontrolv1.FlowSchemaCondition{
		Type: flowcontrolv1.FlowSchemaConditionDangling, Status: flowcontrolv1.ConditionFalse, Reason: "Found",
		Message: fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q and it exists", level),
	}
	if dangling {
		c.Status, c.Reason = flowcontrolv1.ConditionTrue, "NotFound"
		c.Message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q but there is no such object", level)
	}
	if withCondition(s, c) == nil {
		return nil
	}
	_, err := k.schemas.Update(ctx, "", s.Name, func(cur *store.Item) (api.Object, error) {
		if now, ok := cur.Object().(*flowcontrolv1.FlowSchema); ok {
			if changed := withCondition(now, c); changed != nil {
				return changed, nil
			}
		}
		return nil, nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// withCondition is a copy with the condition, nil when it says so already.
func withCondition(s *flowcontrolv1.FlowSchema, c flowcontrolv1.FlowSchemaCondition) *flowcontrolv1.FlowSchema {
	c.LastTransitionTime = metav1.Now()
	for i := range s.Status.Conditions {
		old := s.Status.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		if reflect.DeepEqual(old, c) {
			return nil
		}
		s = s.DeepCopy()
		s.Status.Conditions[i] = c
		return s
	}
	s = s.DeepCopy()
	s.Status.Conditions = append(s.Status.Conditions, c)
	return s
}
