// Package discovery describes the kinds of the discovery.k8s.io group (endpoint slices) to
// the server; not to be confused with the discovery of the API itself.
//
// Used by the wiring, which gives Kinds to the server.
package discovery

import "github.com/proa-dev/proa/apis/api"

// Kinds are the group's kinds.
var Kinds = []*api.Kind{EndpointSlices}
