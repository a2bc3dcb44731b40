// Package autoscaling describes the kinds of the autoscaling group to the server. They
// are stored as v2; v1 keeps what it has no field for in annotations.
package autoscaling

import "github.com/proa-dev/proa/apis/api"

// Kinds are the group's kinds.
var Kinds = []*api.Kind{autoscalers, autoscalersV1}

func fill[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}
