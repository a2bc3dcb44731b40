package admission

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/quota"
)

var quotas = schema.GroupResource{Resource: "resourcequotas"}

// ResourceQuota is the step that comes last of all: it charges what an object uses to the
// quotas of its namespace, and refuses it when one has not enough left. Charging is a
// compare-and-swap on the quota's status, so that requests at the same time cannot both
// have the last piece. What is charged for an object that is not stored after all,
// the resourcequota loop gives back. writer is asked for when the first object is charged.
func ResourceQuota(reader api.Reader, writer func() api.Writer, now func() time.Time) Step {
	return Step{Name: "ResourceQuota", Validator: &resourceQuota{reader, writer, now}}
}

type resourceQuota struct {
	reader api.Reader
	writer func() api.Writer
	now    func() time.Time
}

// charge is one quota and what of it is asked for.
type charge struct {
	name      string
	requested corev1.ResourceList
}

func (r *resourceQuota) Validate(ctx context.Context, a *Attributes) error {
	of := a.Kind.GroupResource()
	if a.Namespace == "" || a.Kind.Virtual != nil || !charged(a, of) {
		return nil
	}
	all := r.reader.List(quotas, a.Namespace)
	if len(all) == 0 {
		return nil
	}
	uses := quota.Usage(of, a.Object, r.now())
	grows := uses
	if a.Operation == Update {
		grows = quota.Growth(uses, quota.Usage(of, a.Old, r.now()))
	}
	var charges []charge
	for _, o := range all {
		q, ok := o.(*corev1.ResourceQuota)
		if !ok {
			continue
		}
		more := grows
		if a.Operation == Update && !quota.InScope(q, of, a.Old) {
			more = uses // it comes under this quota by the change
		}
		c, err := r.judge(a, of, q, more)
		if err != nil {
			return err
		}
		if len(c.requested) > 0 {
			charges = append(charges, c)
		}
	}
	return r.charge(ctx, a, charges)
}

// charged are the writes that can make an object use more.
func charged(a *Attributes, of schema.GroupResource) bool {
	switch a.Operation {
	case Create:
		return a.Subresource == ""
	case Update:
		return of == quota.Pods && (a.Subresource == "" || a.Subresource == "resize") || a.Subresource == "" && (of == quota.Services || of == quota.Claims)
	}
	return false
}

// judge refuses what a quota has no room for, as far as the cache knows.
func (r *resourceQuota) judge(a *Attributes, of schema.GroupResource, q *corev1.ResourceQuota, grows corev1.ResourceList) (charge, error) {
	names := quota.Names(q.Status.Hard, of)
	if len(names) == 0 || !quota.InScope(q, of, a.Object) {
		return charge{}, nil
	}
	if pod, ok := a.Object.(*corev1.Pod); ok && a.Operation == Create {
		if err := quota.Unspecified(pod, q.Status.Hard); err != nil {
			return charge{}, forbidden(a, fmt.Errorf("failed quota: %s: %v", q.Name, err))
		}
	}
	for _, name := range names {
		if _, counted := q.Status.Used[name]; !counted {
			return charge{}, forbidden(a, fmt.Errorf("status unknown for quota: %s, resources: %s", q.Name, joined(names)))
		}
	}
	c := charge{q.Name, quota.Only(grows, q.Status.Hard)}
	for name, q := range c.requested {
		if q.IsZero() {
			delete(c.requested, name)
		}
	}
	return c, exceeds(a, q, c.requested)
}

func joined(names []corev1.ResourceName) string {
	var parts []string
	for _, n := range names {
		parts = append(parts, string(n))
	}
	return strings.Join(parts, ",")
}

func exceeds(a *Attributes, q *corev1.ResourceQuota, requested corev1.ResourceList) error {
	over := quota.Exceeded(requested, q.Status.Used, q.Status.Hard)
	if len(over) == 0 {
		return nil
	}
	return forbidden(a, fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name,
		quota.Text(over), quota.Text(quota.Only(q.Status.Used, over)), quota.Text(quota.Only(q.Status.Hard, over))))
}

// charge takes from each quota, or from none.
func (r *resourceQuota) charge(ctx context.Context, a *Attributes, charges []charge) error {
	if a.DryRun {
		return nil
	}
	for i, c := range charges {
		err := r.add(ctx, a, c)
		if err == nil {
			continue
		}
		for _, done := range charges[:i] {
			r.giveBack(context.WithoutCancel(ctx), a, done)
		}
		return err
	}
	return nil
}

func (r *resourceQuota) add(ctx context.Context, a *Attributes, c charge) error {
	_, err := r.writer().Update(ctx, quotas, a.Namespace, c.name, false, func(o api.Object) error {
		q, ok := o.(*corev1.ResourceQuota)
		if !ok {
			return nil
		}
		if err := exceeds(a, q, c.requested); err != nil {
			return err
		}
		used := q.Status.Used.DeepCopy()
		if used == nil {
			used = corev1.ResourceList{}
		}
		quota.Add(used, quota.Only(c.requested, q.Status.Hard))
		q.Status.Used = used
		return nil
	})
	if apierrors.IsNotFound(err) {
		return nil // the quota is gone, and so is its limit
	}
	return err
}

// giveBack undoes a charge; the loop does it when this fails.
func (r *resourceQuota) giveBack(ctx context.Context, a *Attributes, c charge) {
	_, _ = r.writer().Update(ctx, quotas, a.Namespace, c.name, false, func(o api.Object) error {
		if q, ok := o.(*corev1.ResourceQuota); ok {
			for name, n := range c.requested {
				if used, ok := q.Status.Used[name]; ok {
					used.Sub(n)
					q.Status.Used[name] = used
				}
			}
		}
		return nil
	})
}
