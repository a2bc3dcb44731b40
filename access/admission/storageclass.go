package admission

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/proa-dev/proa/apis/storage"
)

// claimOf is the claim being written; nil for anything else and for subresources.
func claimOf(a *Attributes, op Operation) *corev1.PersistentVolumeClaim {
	if a.Kind.GroupResource() != claims || a.Subresource != "" || a.Operation != op {
		return nil
	}
	c, _ := a.Object.(*corev1.PersistentVolumeClaim)
	return c
}

// classOf is the class that a claim names; ok is false for a claim that names none.
func classOf(c *corev1.PersistentVolumeClaim) (name string, ok bool) {
	if name, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return name, true
	}
	if c.Spec.StorageClassName != nil {
		return *c.Spec.StorageClassName, true
	}
	return "", false
}

// defaultStorageClass gives a claim that names no class the default one, if there is one.
type defaultStorageClass struct{ env Env }

func (d *defaultStorageClass) Mutate(_ context.Context, a *Attributes) error {
	claim := claimOf(a, Create)
	if claim == nil {
		return nil
	}
	if _, ok := classOf(claim); ok {
		return nil
	}
	if class := newest(d.env, storageClasses, storage.IsDefault); class != nil {
		name := class.Name
		claim.Spec.StorageClassName = &name
	}
	return nil
}

// claimResize refuses to let a claim grow that nothing would make larger.
type claimResize struct{ env Env }

func (r *claimResize) Validate(_ context.Context, a *Attributes) error {
	claim := claimOf(a, Update)
	old, ok := a.Old.(*corev1.PersistentVolumeClaim)
	if claim == nil || !ok {
		return nil
	}
	now, was := claim.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if now.Cmp(was) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return forbidden(a, errors.New("Only bound persistent volume claims can be expanded")) //nolint:staticcheck // the API's words
	}
	name, named := classOf(claim)
	before, _ := classOf(old)
	if named && name != "" && name == before {
		obj, ok := r.env.Reader.Get(storageClasses, "", name)
		class, typed := obj.(*storagev1.StorageClass)
		if ok && typed && class.AllowVolumeExpansion != nil && *class.AllowVolumeExpansion {
			return nil
		}
	}
	return forbidden(a, errors.New("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"))
}
