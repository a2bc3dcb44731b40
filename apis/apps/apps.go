// Package apps describes the kinds of the apps group to the server.
//
// The one idea: every kind here is a pod template with a selector and a number; what they
// share (template.go, check.go) is written once, what differs is in the kind's own file.
//
// Used by the wiring, which gives Kinds to the server.
package apps

import "github.com/proa-dev/proa/apis/api"

// Kinds are the group's kinds.
var Kinds = []*api.Kind{Deployments, ReplicaSets, DaemonSets, StatefulSets, ControllerRevisions}
