// Package apis is the list of all that is served: each package below it is an API group, each
// file in those a kind.
//
// Its test judges every kind by the table testdata/validation/<plural>.yaml of its group, so that a
// kind cannot be without one.
package apis

import (
	"slices"

	"github.com/proa-dev/proa/apis/admissionregistration"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apiextensions"
	"github.com/proa-dev/proa/apis/apiregistration"
	"github.com/proa-dev/proa/apis/apps"
	"github.com/proa-dev/proa/apis/authentication"
	"github.com/proa-dev/proa/apis/authorization"
	"github.com/proa-dev/proa/apis/autoscaling"
	"github.com/proa-dev/proa/apis/batch"
	"github.com/proa-dev/proa/apis/certificates"
	"github.com/proa-dev/proa/apis/coordination"
	"github.com/proa-dev/proa/apis/core"
	"github.com/proa-dev/proa/apis/discovery"
	"github.com/proa-dev/proa/apis/events"
	"github.com/proa-dev/proa/apis/flowcontrol"
	"github.com/proa-dev/proa/apis/metrics"
	"github.com/proa-dev/proa/apis/networking"
	noderesources "github.com/proa-dev/proa/apis/node"
	"github.com/proa-dev/proa/apis/policy"
	"github.com/proa-dev/proa/apis/rbac"
	"github.com/proa-dev/proa/apis/resource"
	"github.com/proa-dev/proa/apis/scheduling"
	"github.com/proa-dev/proa/apis/storage"
	"github.com/proa-dev/proa/apis/storagemigration"
)

// Kinds are all kinds that are built in.
func Kinds() []*api.Kind {
	return slices.Concat(
		core.Kinds, apps.Kinds, batch.Kinds, events.Kinds, authentication.Kinds, authorization.Kinds, certificates.Kinds,
		policy.Kinds, rbac.Kinds, scheduling.Kinds, coordination.Kinds, discovery.Kinds,
		apiregistration.Kinds, flowcontrol.Kinds,
		networking.Kinds, noderesources.Kinds, storage.Kinds, resource.Kinds, autoscaling.Kinds, storagemigration.Kinds,
		admissionregistration.Kinds,
		apiextensions.Kinds, metrics.Kinds,
	)
}
