package cluster

import (
	"github.com/proa-dev/proa/apis"
	"github.com/proa-dev/proa/apis/api"
)

// Kinds are all kinds that are built in.
func Kinds() []*api.Kind { return apis.Kinds() }
