// Package networking describes the kinds of networking.k8s.io to the server.
package networking

import "github.com/proa-dev/proa/apis/api"

// Kinds are the group's kinds.
var Kinds = []*api.Kind{ingresses, ingressClasses, networkPolicies, ipAddresses, serviceCIDRs}

const none = "<none>"
