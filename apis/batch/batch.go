// Package batch describes the kinds of the batch group to the server.
//
// The one idea: a Job is a pod template that is run to an end so many times; a CronJob is
// a Job template with a clock.
//
// Used by the wiring, which gives Kinds to the server.
package batch

import "github.com/proa-dev/proa/apis/api"

// Kinds are the group's kinds.
var Kinds = []*api.Kind{Jobs, CronJobs}
