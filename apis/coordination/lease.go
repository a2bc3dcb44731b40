// Package coordination describes the kinds of coordination.k8s.io to the server.
package coordination

import (
	"context"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Kinds are the group's kinds.
var Kinds = []*api.Kind{leases}

var leases = api.Define(api.Resource[*coordinationv1.Lease]{
	Group: coordinationv1.GroupName, Version: "v1", Kind: "Lease", Plural: "leases", Namespaced: true,
	Alike:               []string{"v1beta1"},
	CreateOnUpdate:      true,
	UnconditionalUpdate: false,
	Validate:            validateLease,
	PrepareCreate:       func(_ context.Context, l *coordinationv1.Lease) { dropCoordination(l, nil) },
	PrepareUpdate:       func(_ context.Context, l, old *coordinationv1.Lease) { dropCoordination(l, old) },
	Columns: []api.Column[*coordinationv1.Lease]{
		{Name: "Holder", Description: coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"], Value: func(l *coordinationv1.Lease) any {
			if l.Spec.HolderIdentity == nil {
				return ""
			}
			return *l.Spec.HolderIdentity
		}},
		api.Age[*coordinationv1.Lease](),
	},
})

// dropCoordination clears what belongs to coordinated leader election, a feature that is off, unless it was in use.
func dropCoordination(l, old *coordinationv1.Lease) {
	if old == nil || old.Spec.Strategy == nil && old.Spec.PreferredHolder == nil {
		l.Spec.Strategy, l.Spec.PreferredHolder = nil, nil
	}
}

func validateLease(l *coordinationv1.Lease) field.ErrorList {
	var errs field.ErrorList
	spec, path := l.Spec, field.NewPath("spec")
	if d := spec.LeaseDurationSeconds; d != nil && *d <= 0 {
		errs = append(errs, field.Invalid(path.Child("leaseDurationSeconds"), *d, "must be greater than 0"))
	}
	if n := spec.LeaseTransitions; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(path.Child("leaseTransitions"), *n, "must be greater than or equal to 0"))
	}
	if spec.Strategy != nil && *spec.Strategy != coordinationv1.OldestEmulationVersion {
		errs = append(errs, field.NotSupported(path.Child("strategy"), *spec.Strategy, []coordinationv1.CoordinatedLeaseStrategy{coordinationv1.OldestEmulationVersion}))
	}
	if spec.PreferredHolder != nil && (spec.Strategy == nil || *spec.Strategy == "") {
		errs = append(errs, field.Forbidden(path.Child("preferredHolder"), "may only be specified if `strategy` is defined"))
	}
	return errs
}
