// Package apiextensions has the kind that defines kinds: CustomResourceDefinition.
//
// The one idea: a definition that this package accepts can be served. Its schema is compiled
// and its rules are type-checked when it is written, so that apiserver/custom, which makes kinds of
// definitions, has nothing left to refuse.
//
// Used by cluster and apiserver/custom.
package apiextensions

import "github.com/proa-dev/proa/apis/api"

// Kinds of the group apiextensions.k8s.io.
var Kinds = []*api.Kind{CustomResourceDefinitions}
