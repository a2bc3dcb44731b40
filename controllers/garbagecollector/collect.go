package garbagecollector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"github.com/proa-dev/proa/controllers/loop"
)

// trust is how long an owner found alive is not asked for again while its event is out.
const (
	trust     = 30 * time.Second
	mostFound = 10000
)

// errOdd is an owner that cannot be looked for: kept out of collection, told once.
var errOdd = errors.New("owner cannot be looked for")

// lookup names an owner as a reference in a namespace does.
type lookup struct {
	kind            schema.GroupKind
	namespace, name string
	uid             types.UID
}

func (c *Controller) reconcile(ctx context.Context, uid types.UID) error {
	i, dependents := c.graph.find(uid)
	switch {
	case i == nil:
		return nil
	case i.orphaning():
		return c.orphan(ctx, i, dependents)
	case i.foreground():
		return c.foreground(ctx, i, dependents)
	case i.deleting || len(i.owners) == 0:
		return nil
	}
	owners := make([]presence, len(i.owners))
	for n, ref := range i.owners {
		p := c.graph.presence(i, ref)
		if p == unseen {
			var err error
			if p, err = c.ask(ctx, i, ref); errors.Is(err, errOdd) {
				return nil
			} else if err != nil {
				return fmt.Errorf("look for owner of %s: %w", i, err)
			}
		}
		owners[n] = p
	}
	return c.act(ctx, i, decide(i, owners, dependents))
}

func (c *Controller) act(ctx context.Context, i *item, a action) error {
	if a.drop {
		return c.patch(ctx, i, "ownerReferences", a.keep)
	}
	if a.unblock {
		refs := slices.Clone(i.owners)
		for n := range refs {
			refs[n].BlockOwnerDeletion = new(bool)
		}
		return c.patch(ctx, i, "ownerReferences", refs) // its event brings the item here again
	}
	if a.delete == "" {
		return nil
	}
	err := c.client(i).Delete(ctx, i.name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &i.uid, ResourceVersion: &i.version}, PropagationPolicy: &a.delete,
	})
	if err == nil {
		c.deps.Log.Debug("collected", "controller", "garbagecollector", "object", i, "propagation", a.delete)
	}
	return loop.Gone(err)
}

// foreground lets an owner go when no dependent blocks it, or sends for those that do.
func (c *Controller) foreground(ctx context.Context, i *item, dependents []*item) error {
	blocked := false
	for _, d := range dependents {
		if ref := d.owner(i.uid); ref == nil || !blocks(ref) {
			continue
		}
		blocked = true
		if !d.deleting {
			c.Add(d.uid)
		}
	}
	if blocked {
		return nil // each that goes brings the owner here again
	}
	return c.removeFinalizer(ctx, i, metav1.FinalizerDeleteDependents)
}

// orphan frees the dependents of their owner, then lets it go.
func (c *Controller) orphan(ctx context.Context, i *item, dependents []*item) error {
	var problems []error
	for _, d := range dependents {
		keep := slices.DeleteFunc(slices.Clone(d.owners), func(r metav1.OwnerReference) bool { return r.UID == i.uid })
		if err := c.patch(ctx, d, "ownerReferences", keep); err != nil {
			problems = append(problems, fmt.Errorf("free %s of its owner: %w", d, err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	return c.removeFinalizer(ctx, i, metav1.FinalizerOrphanDependents)
}

func (c *Controller) removeFinalizer(ctx context.Context, i *item, finalizer string) error {
	return c.patch(ctx, i, "finalizers", slices.DeleteFunc(slices.Clone(i.finalizers), func(f string) bool { return f == finalizer }))
}

// patch sets a list in the metadata of an item as it was judged, or nothing.
func (c *Controller) patch(ctx context.Context, i *item, field string, value any) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": i.uid, "resourceVersion": i.version, field: value}})
	if err != nil {
		return err
	}
	_, err = c.client(i).Patch(ctx, i.name, types.MergePatchType, body, metav1.PatchOptions{})
	return loop.Gone(err)
}

func (c *Controller) client(i *item) metadata.ResourceInterface {
	if i.kind.namespaced {
		return c.deps.Metadata.Resource(i.kind.resource).Namespace(i.namespace)
	}
	return c.deps.Metadata.Resource(i.kind.resource)
}

// ask looks at the server for an owner that no event has shown.
func (c *Controller) ask(ctx context.Context, i *item, ref metav1.OwnerReference) (presence, error) {
	k, err := c.kindOf(ref)
	if err != nil {
		return unseen, err
	}
	if k.namespaced && i.namespace == "" {
		c.complain(i, ref)
		return unseen, errOdd
	}
	key := lookup{kind: k.GroupKind(), namespace: i.namespace, name: ref.Name, uid: ref.UID}
	if c.trusted(key) {
		c.AddAfter(i.uid, trust)
		return solid, nil
	}
	client := metadata.ResourceInterface(c.deps.Metadata.Resource(k.resource))
	if k.namespaced {
		client = c.deps.Metadata.Resource(k.resource).Namespace(i.namespace)
	}
	live, err := client.Get(ctx, ref.Name, metav1.GetOptions{})
	if err == nil && live.UID == ref.UID {
		c.keep(key)
		c.AddAfter(i.uid, trust)
		if live.DeletionTimestamp != nil && slices.Contains(live.Finalizers, metav1.FinalizerDeleteDependents) {
			return waiting, nil
		}
		return solid, nil
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return unseen, err
	}
	if elsewhere, _ := c.graph.find(ref.UID); elsewhere != nil && k.namespaced && elsewhere.namespace != i.namespace {
		c.complain(i, ref)
	}
	return absent, nil
}

func (c *Controller) kindOf(ref metav1.OwnerReference) (kind, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return kind{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.kinds[schema.GroupKind{Group: gv.Group, Kind: ref.Kind}]
	if !ok {
		return k, fmt.Errorf("no kind %s in %s is served", ref.Kind, ref.APIVersion)
	}
	return k, nil
}

func (c *Controller) trusted(key lookup) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.found[key]
	if ok && c.deps.Clock.Now().After(until) {
		delete(c.found, key)
		return false
	}
	return ok
}

func (c *Controller) keep(key lookup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.found) >= mostFound {
		clear(c.found)
	}
	c.found[key] = c.deps.Clock.Now().Add(trust - time.Second)
}

// complain tells of a reference to an owner in another namespace.
func (c *Controller) complain(i *item, ref metav1.OwnerReference) {
	about := &corev1.ObjectReference{
		Kind: i.kind.Kind, APIVersion: i.kind.GroupVersion().String(), Namespace: i.namespace, Name: i.name, UID: i.uid,
	}
	owner := fmt.Sprintf("[%s/%s, namespace: %s, name: %s, uid: %s]", ref.APIVersion, ref.Kind, i.namespace, ref.Name, ref.UID)
	c.recorder.Eventf(about, corev1.EventTypeWarning, "OwnerRefInvalidNamespace", "ownerRef %s does not exist in namespace %q", owner, i.namespace)
}
