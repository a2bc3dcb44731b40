// Package core tells the server about the kinds of the core group (v1): pods, nodes,
// services, namespaces and what they are configured with.
//
// The one idea: each file holds everything about one kind as an api.Resource, and parts
// that several kinds share (the pod spec above all) have files named after their subject:
// pod_*.go for the spec of pods, columns.go for what table cells have in common.
//
// Called by apiserver through api.Kind, and by apis/apps and apis/batch for pod templates.
package core

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// Kinds that actions look up: their own variables would refer to themselves.
var (
	accountResource = schema.GroupResource{Resource: "serviceaccounts"}
	nodeResource    = schema.GroupResource{Resource: "nodes"}
	podResource     = schema.GroupResource{Resource: "pods"}
	secretResource  = schema.GroupResource{Resource: "secrets"}
)

// Kinds are the kinds of the core group; the last two are not stored.
var Kinds = []*api.Kind{
	ConfigMaps,
	EndpointsKind,
	Events,
	LimitRanges,
	Namespaces,
	Nodes,
	PersistentVolumeClaims,
	PersistentVolumes,
	Pods,
	PodTemplates,
	ReplicationControllers,
	ResourceQuotas,
	Secrets,
	ServiceAccounts,
	Services,
	Bindings,
	ComponentStatuses,
}
