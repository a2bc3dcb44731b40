// Package namespace empties namespaces that are being deleted and lets them go.
//
// The one idea: every kind that can be deleted as a collection is asked to; what is still
// there afterwards, and why, is the namespace's conditions; when nothing is, the finalizer
// that holds the namespace is taken off.
//
// Used by controllers.All.
package namespace

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

// lookAgain is how long to wait for what goes in its own time and wakes nobody here.
const lookAgain = time.Second

// Controller is the loop.
type Controller struct {
	*loop.Loop[string]
	deps       loop.Deps
	namespaces corelisters.NamespaceLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	core := deps.Informers.Core().V1()
	c := &Controller{deps: deps, namespaces: core.Namespaces().Lister()}
	c.Loop = loop.New("namespace", deps, c.reconcile)
	c.Watch(core.Namespaces().Informer(), func(obj any) []string {
		ns, ok := obj.(*corev1.Namespace)
		if !ok || ns.DeletionTimestamp == nil {
			return nil
		}
		return []string{ns.Name}
	})
	// Pods are what goes last and slowest; the end of one is the moment to look again.
	c.Handle(core.Pods().Informer(), ended(func(namespace string) {
		if ns, err := c.namespaces.Get(namespace); err == nil && ns.DeletionTimestamp != nil {
			c.Add(namespace)
		}
	}))
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 10) }

func (c *Controller) reconcile(ctx context.Context, name string) error {
	cached, err := c.namespaces.Get(name)
	if err != nil {
		return loop.Gone(err)
	}
	if cached.DeletionTimestamp == nil {
		return nil
	}
	// Whether it may be emptied is asked of the server: deletion cannot be taken back.
	ns, err := c.deps.Client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return loop.Gone(err)
	}
	if ns.UID != cached.UID || ns.DeletionTimestamp == nil || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return nil
	}
	found := c.empty(ctx, ns)
	if ns, err = c.show(ctx, ns, found); err != nil || ns == nil {
		return err
	}
	if err := errors.Join(append(found.undiscovered, found.failed...)...); err != nil {
		return err
	}
	if found.remains() {
		c.AddAfter(name, lookAgain)
		return nil
	}
	return c.finalize(ctx, ns)
}

// show writes the conditions, if they differ; nil: the namespace is gone.
func (c *Controller) show(ctx context.Context, ns *corev1.Namespace, found *findings) (*corev1.Namespace, error) {
	status := ns.Status.DeepCopy()
	status.Phase = corev1.NamespaceTerminating
	status.Conditions = conditions(status.Conditions, found, c.deps.Clock.Now())
	if equality.Semantic.DeepEqual(&ns.Status, status) {
		return ns, nil
	}
	changed := ns.DeepCopy()
	changed.Status = *status
	made, err := c.deps.Client.CoreV1().Namespaces().UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	if err != nil {
		return nil, loop.Gone(err)
	}
	return made, nil
}

func (c *Controller) finalize(ctx context.Context, ns *corev1.Namespace) error {
	changed := ns.DeepCopy()
	changed.Spec.Finalizers = slices.DeleteFunc(changed.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	_, err := c.deps.Client.CoreV1().Namespaces().Finalize(ctx, changed, metav1.UpdateOptions{})
	return loop.Gone(err)
}

// kinds are the namespaced kinds that can be listed and deleted. An error names groups that
// could not be asked; the rest is given.
func (c *Controller) kinds() ([]schema.GroupVersionResource, []metav1.APIResource, error) {
	lists, err := c.deps.Discovery.ServerPreferredNamespacedResources()
	lists = discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"delete", "list"}}, lists)
	var names []schema.GroupVersionResource
	var resources []metav1.APIResource
	for _, list := range lists {
		gv, failed := schema.ParseGroupVersion(list.GroupVersion)
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		for _, r := range list.APIResources {
			names, resources = append(names, gv.WithResource(r.Name)), append(resources, r)
		}
	}
	return names, resources, err
}

// empty deletes all content and says what is left. Pods go first: while one of them runs,
// what it relies on (its network policies above all) stays. See KEP-5080.
func (c *Controller) empty(ctx context.Context, ns *corev1.Namespace) *findings {
	found := &findings{count: map[string]int{}, finalizers: map[string]int{}}
	names, resources, err := c.kinds()
	if err != nil {
		found.undiscovered = append(found.undiscovered, err)
	}
	pods := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	if i := slices.Index(names, pods); i >= 0 {
		c.emptyKind(ctx, ns.Name, pods, resources[i].Verbs, found)
		if found.remains() {
			return found
		}
	}
	for i, gvr := range names {
		if gvr != pods {
			c.emptyKind(ctx, ns.Name, gvr, resources[i].Verbs, found)
		}
	}
	return found
}

func (c *Controller) emptyKind(ctx context.Context, namespace string, gvr schema.GroupVersionResource, verbs metav1.Verbs, found *findings) {
	client := c.deps.Metadata.Resource(gvr).Namespace(namespace)
	before, err := client.List(ctx, metav1.ListOptions{Limit: 1})
	if absent(err) || err == nil && len(before.Items) == 0 {
		return
	}
	background := metav1.DeletePropagationBackground
	if slices.Contains(verbs, "deletecollection") {
		err = client.DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{})
	}
	left, listed := client.List(ctx, metav1.ListOptions{})
	if absent(listed) {
		return
	}
	if listed != nil {
		found.failed = append(found.failed, errors.Join(err, listed))
		return
	}
	if !slices.Contains(verbs, "deletecollection") {
		for i := range left.Items {
			item := &left.Items[i]
			err = errors.Join(err, loop.Gone(client.Delete(ctx, item.Name, metav1.DeleteOptions{PropagationPolicy: &background})))
		}
		if left, listed = client.List(ctx, metav1.ListOptions{}); listed != nil {
			found.failed = append(found.failed, errors.Join(err, listed))
			return
		}
	}
	if err != nil {
		found.failed = append(found.failed, err)
	}
	if len(left.Items) == 0 {
		return
	}
	found.count[gvr.Resource+"."+gvr.Group] += len(left.Items)
	for i := range left.Items {
		for _, f := range left.Items[i].Finalizers {
			found.finalizers[f]++
		}
	}
}

// absent says that there is no such kind (any more).
func absent(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err)
}
