package custom

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apiextensions"
	"github.com/proa-dev/proa/store"
)

// clean begins to delete the objects of a definition that goes, unless that goes on already.
func (d *Definitions) clean(ctx context.Context, def *apiextensions.Definition) {
	if def == nil || def.DeletionTimestamp == nil || d.cleaning[def.UID] ||
		!slices.Contains(def.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer) {
		return
	}
	d.cleaning[def.UID] = true
	established := d.resources[def.Name] != nil
	d.group.Go(func() {
		err := d.remove(ctx, def, established)
		select {
		case d.cleaned <- def.UID:
		case <-ctx.Done():
			return
		}
		if err != nil {
			d.failed(ctx, def.Name, "delete the objects of a definition", err)
		}
	})
}

// remove deletes all objects, waits until they are gone, and lets the definition go.
func (d *Definitions) remove(ctx context.Context, def *apiextensions.Definition, established bool) error {
	reason, message := "NeverEstablished", "resource was never established"
	if established {
		err := d.change(ctx, def, func(now *apiextensions.Definition) {
			apiextensions.SetCondition(now, apiextensionsv1.Terminating, apiextensionsv1.ConditionTrue, "InstanceDeletionInProgress", "CustomResource deletion is in progress")
		})
		if err != nil {
			return err
		}
		if err := d.removeObjects(ctx, def); err != nil {
			d.say(ctx, def, "InstanceDeletionFailed", fmt.Sprintf("could not issue all deletes: %v", err))
			return err
		}
		reason, message = "InstanceDeletionCompleted", "removed all instances"
	}
	err := d.change(ctx, def, func(now *apiextensions.Definition) {
		apiextensions.SetCondition(now, apiextensionsv1.Terminating, apiextensionsv1.ConditionFalse, reason, message)
		now.Finalizers = slices.DeleteFunc(now.Finalizers, func(f string) bool { return f == apiextensionsv1.CustomResourceCleanupFinalizer })
	})
	if err != nil {
		return err
	}
	_, err = d.definitions.Delete(ctx, "", def.Name, func(cur *store.Item) error {
		now := cur.Object()
		if now == nil || now.GetUID() != def.UID || len(now.GetFinalizers()) > 0 || now.GetDeletionTimestamp() == nil {
			return errStays
		}
		return nil
	})
	if errors.Is(err, errStays) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

var errStays = errors.New("the definition stays")

// change edits a definition if it is still the same one.
func (d *Definitions) change(ctx context.Context, def *apiextensions.Definition, edit func(*apiextensions.Definition)) error {
	_, err := d.definitions.Update(ctx, "", def.Name, func(cur *store.Item) (api.Object, error) {
		now, ok := cur.Object().(*apiextensions.Definition)
		if !ok || now.UID != def.UID {
			return nil, nil
		}
		next := now.DeepCopy()
		edit(next)
		return next, nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// say tells why a definition cannot go yet.
func (d *Definitions) say(ctx context.Context, def *apiextensions.Definition, reason, message string) {
	err := d.change(ctx, def, func(now *apiextensions.Definition) {
		apiextensions.SetCondition(now, apiextensionsv1.Terminating, apiextensionsv1.ConditionTrue, reason, message)
	})
	if err != nil && ctx.Err() == nil {
		d.log.Error("write the status of a definition", "definition", def.Name, "err", err)
	}
}

// removeObjects deletes what there is and waits for what takes its time.
func (d *Definitions) removeObjects(ctx context.Context, def *apiextensions.Definition) error {
	gr := groupResource(def)
	c, ok := d.cfg.Store.Collection(gr)
	if !ok {
		return nil
	}
	w, err := c.Watch(ctx, store.WatchOptions{Since: store.Latest})
	if err != nil {
		return fmt.Errorf("watch %s: %w", gr, err)
	}
	defer w.Stop()
	asked := map[string]bool{} // uids
	for {
		snapshot, err := c.Snapshot(ctx, store.Latest)
		if err != nil {
			return err
		}
		if snapshot.Len("") == 0 {
			return nil
		}
		var items []*store.Item
		snapshot.Ascend("", "", func(i *store.Item) bool {
			items = append(items, i)
			return true
		})
		for _, i := range items {
			obj := i.Object()
			if obj == nil || asked[string(obj.GetUID())] {
				continue
			}
			namespace, name := i.Key()
			if err := d.cfg.Env.Writer.Delete(ctx, gr, namespace, name, &metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("delete %s/%s: %w", namespace, name, err)
			}
			asked[string(obj.GetUID())] = true
		}
		if _, err := w.Next(ctx); err != nil {
			return err
		}
	}
}
