// Package authentication tells the server about authentication.k8s.io: questions about who
// somebody is.
//
// The one idea: nothing here is stored; each kind is one Action answered through api.Env.
//
// Used by cluster, which collects all kinds. TokenRequest is a subresource of service
// accounts and belongs to apis/core.
package authentication

import "github.com/proa-dev/proa/apis/api"

// Kinds of the group.
var Kinds = []*api.Kind{TokenReviews, SelfSubjectReviews}

const (
	group   = "authentication.k8s.io"
	version = "v1"
)
