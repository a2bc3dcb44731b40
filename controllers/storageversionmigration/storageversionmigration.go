// Package storageversionmigration writes all objects of a kind anew, as a migration asks
// for, so that each is stored as it would be stored today.
//
// The one idea: an empty change makes the server read, default and encode an object; it
// writes what comes out different. A migration that is interrupted begins again, which costs reading.
//
// Used by controllers.All.
package storageversionmigration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	migrationv1 "k8s.io/api/storagemigration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	migrationlisters "k8s.io/client-go/listers/storagemigration/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

const (
	page    = 500              // objects that are listed at once
	unknown = 30 * time.Second // until a kind that is not served is looked for again
)

// Controller is the loop over migrations.
type Controller struct {
	*loop.Loop[string]
	deps       loop.Deps
	migrations migrationlisters.StorageVersionMigrationLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	migrations := deps.Informers.Storagemigration().V1().StorageVersionMigrations()
	c := &Controller{deps: deps, migrations: migrations.Lister()}
	c.Loop = loop.New("storageversionmigration", deps, c.reconcile)
	c.Watch(migrations.Informer(), func(obj any) []string {
		m, ok := obj.(*migrationv1.StorageVersionMigration)
		if !ok || over(m) {
			return nil
		}
		return []string{m.Name}
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 1) }

func over(m *migrationv1.StorageVersionMigration) bool {
	return meta.IsStatusConditionTrue(m.Status.Conditions, string(migrationv1.MigrationSucceeded)) ||
		meta.IsStatusConditionTrue(m.Status.Conditions, string(migrationv1.MigrationFailed))
}

func (c *Controller) reconcile(ctx context.Context, name string) error {
	m, err := c.migrations.Get(name)
	if err != nil || over(m) || m.DeletionTimestamp != nil {
		return loop.Gone(err)
	}
	gvr, found, err := c.find(m.Spec.Resource)
	if err != nil {
		return err
	}
	if !found { // it may be served later
		c.AddAfter(name, unknown)
		return nil
	}
	version, err := c.version(ctx, gvr)
	if err != nil {
		return err
	}
	if m, err = c.say(ctx, m, migrationv1.MigrationRunning, "StorageVersionMigrationInProgress", "", version); err != nil {
		return loop.Gone(err)
	}
	if err := c.migrate(ctx, gvr); err != nil {
		if ctx.Err() == nil && !apierrors.IsInternalError(err) && !apierrors.IsTooManyRequests(err) && !apierrors.IsServerTimeout(err) {
			_, writeErr := c.say(ctx, m, migrationv1.MigrationFailed, "StorageVersionMigrationFailed", err.Error(), "")
			return loop.Gone(writeErr)
		}
		return err
	}
	_, err = c.say(ctx, m, migrationv1.MigrationSucceeded, "StorageVersionMigrationSucceeded", "", "")
	return loop.Gone(err)
}

// find gives the version in which a kind is best spoken of.
func (c *Controller) find(of metav1.GroupResource) (schema.GroupVersionResource, bool, error) {
	lists, err := discovery.ServerPreferredResources(c.deps.Discovery)
	for _, list := range lists {
		gv, parseErr := schema.ParseGroupVersion(list.GroupVersion)
		if parseErr != nil || gv.Group != of.Group {
			continue
		}
		for _, r := range list.APIResources {
			if r.Name == of.Resource && slices.Contains([]string(r.Verbs), "patch") && slices.Contains([]string(r.Verbs), "list") {
				return gv.WithResource(r.Name), true, nil
			}
		}
	}
	if len(lists) == 0 {
		return schema.GroupVersionResource{}, false, err
	}
	return schema.GroupVersionResource{}, false, nil
}

func (c *Controller) version(ctx context.Context, gvr schema.GroupVersionResource) (string, error) {
	list, err := c.deps.Metadata.Resource(gvr).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return "", fmt.Errorf("list %s: %w", gvr.GroupResource(), err)
	}
	return list.ResourceVersion, nil
}

func (c *Controller) migrate(ctx context.Context, gvr schema.GroupVersionResource) error {
	client := c.deps.Metadata.Resource(gvr)
	var next string
	for {
		list, err := client.List(ctx, metav1.ListOptions{Limit: page, Continue: next})
		if err != nil {
			return fmt.Errorf("list %s: %w", gvr.GroupResource(), err)
		}
		var problems []error
		for i := range list.Items {
			o := &list.Items[i]
			body := fmt.Sprintf(`{"metadata":{"uid":%q}}`, o.UID) // not another of its name
			_, err := client.Namespace(o.Namespace).Patch(ctx, o.Name, types.MergePatchType, []byte(body), metav1.PatchOptions{})
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // whoever wrote it wrote it anew
				problems = append(problems, fmt.Errorf("%s/%s: %w", o.Namespace, o.Name, err))
			}
		}
		if err := errors.Join(problems...); err != nil {
			return err
		}
		if next = list.Continue; next == "" {
			return nil
		}
	}
}

// say sets one condition to true and those that it ends to false.
func (c *Controller) say(ctx context.Context, m *migrationv1.StorageVersionMigration, kind migrationv1.MigrationConditionType, reason, message, version string) (*migrationv1.StorageVersionMigration, error) {
	changed := m.DeepCopy()
	if version != "" && changed.Status.ResourceVersion == "" {
		changed.Status.ResourceVersion = version
	}
	now := metav1.NewTime(c.deps.Clock.Now())
	if kind != migrationv1.MigrationRunning {
		meta.SetStatusCondition(&changed.Status.Conditions, metav1.Condition{
			Type: string(migrationv1.MigrationRunning), Status: metav1.ConditionFalse, Reason: reason, LastTransitionTime: now,
		})
	}
	set := meta.SetStatusCondition(&changed.Status.Conditions, metav1.Condition{
		Type: string(kind), Status: metav1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: now,
	})
	if !set {
		return m, nil
	}
	return c.deps.Client.StoragemigrationV1().StorageVersionMigrations().UpdateStatus(ctx, changed, metav1.UpdateOptions{})
}
