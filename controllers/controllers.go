// Package controllers is the ordered list of the loops that make the cluster as its
// objects say. Each loop is a package below this one.
//
// Used by cluster.
package controllers

import (
	"context"
	"fmt"

	"github.com/proa-dev/proa/controllers/apiservers"
	"github.com/proa-dev/proa/controllers/certificates"
	"github.com/proa-dev/proa/controllers/clusterrole"
	"github.com/proa-dev/proa/controllers/cronjob"
	"github.com/proa-dev/proa/controllers/daemonset"
	"github.com/proa-dev/proa/controllers/deployment"
	"github.com/proa-dev/proa/controllers/disruption"
	"github.com/proa-dev/proa/controllers/endpoints"
	"github.com/proa-dev/proa/controllers/endpointslice"
	"github.com/proa-dev/proa/controllers/endpointslicemirroring"
	"github.com/proa-dev/proa/controllers/ephemeral"
	"github.com/proa-dev/proa/controllers/garbagecollector"
	"github.com/proa-dev/proa/controllers/horizontalpodautoscaler"
	"github.com/proa-dev/proa/controllers/ipaddress"
	"github.com/proa-dev/proa/controllers/job"
	"github.com/proa-dev/proa/controllers/loadbalancer"
	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/controllers/namespace"
	"github.com/proa-dev/proa/controllers/networkpolicy"
	"github.com/proa-dev/proa/controllers/nodelifecycle"
	"github.com/proa-dev/proa/controllers/persistentvolume"
	"github.com/proa-dev/proa/controllers/podcertificates"
	"github.com/proa-dev/proa/controllers/podcidr"
	"github.com/proa-dev/proa/controllers/podgc"
	"github.com/proa-dev/proa/controllers/policystatus"
	"github.com/proa-dev/proa/controllers/replicaset"
	"github.com/proa-dev/proa/controllers/resourceclaim"
	"github.com/proa-dev/proa/controllers/resourcequota"
	"github.com/proa-dev/proa/controllers/rootca"
	"github.com/proa-dev/proa/controllers/serviceaccount"
	"github.com/proa-dev/proa/controllers/servicecidr"
	"github.com/proa-dev/proa/controllers/statefulset"
	"github.com/proa-dev/proa/controllers/storageversionmigration"
	"github.com/proa-dev/proa/controllers/tokencleaner"
	"github.com/proa-dev/proa/controllers/tokensecrets"
	"github.com/proa-dev/proa/controllers/volumeprotection"
)

// Controller is a loop that is ready to run.
type Controller struct {
	Name string
	Run  func(context.Context) error
}

// All makes the loops. What others wait for comes first: a node's address range, the
// accounts and certificates that pods mount.
func All(deps loop.Deps) ([]Controller, error) {
	var all []Controller
	for _, one := range []struct {
		name string
		make func(loop.Deps) (interface{ Run(context.Context) error }, error)
	}{
		{"podcidr", made(podcidr.New)},
		{"serviceaccount", made(serviceaccount.New)},
		{"rootca", made(rootca.New)},
		{"namespace", made(namespace.New)},
		{"certificates", made(certificates.New)},
		{"podcertificates", made(podcertificates.New)},
		{"deployment", made(deployment.New)},
		{"replicaset", made(replicaset.New)},
		{"replicationcontroller", made(replicaset.NewReplicationControllers)},
		{"daemonset", made(daemonset.New)},
		{"job", made(job.New)},
		{"statefulset", made(statefulset.New)},
		{"cronjob", made(cronjob.New)},
		{"endpointslice", made(endpointslice.New)},
		{"endpoints", made(endpoints.New)},
		{"networkpolicy", made(networkpolicy.New)},
		{"apiservers", made(apiservers.New)},
		{"endpointslicemirroring", made(endpointslicemirroring.New)},
		{"loadbalancer", made(loadbalancer.New)},
		{"ipaddress", made(ipaddress.New)},
		{"disruption", made(disruption.New)},
		{"ephemeral", made(ephemeral.New)},
		{"persistentvolume", made(persistentvolume.New)},
		{"volumeprotection", made(volumeprotection.New)},
		{"horizontalpodautoscaler", made(horizontalpodautoscaler.New)},
		{"nodelifecycle", made(nodelifecycle.New)},
		{"garbagecollector", made(garbagecollector.New)},
		{"podgc", made(podgc.New)},
		{"resourceclaim", made(resourceclaim.New)},
		{"resourcequota", made(resourcequota.New)},
		{"servicecidr", made(servicecidr.New)},
		{"storageversionmigration", made(storageversionmigration.New)},
		{"tokensecrets", made(tokensecrets.New)},
		{"tokencleaner", made(tokencleaner.New)},
		{"clusterrole", made(clusterrole.New)},
		{"policystatus", made(policystatus.New)},
	} {
		if one.name == "loadbalancer" && !deps.ServiceLB {
			continue
		}
		c, err := one.make(deps)
		if err != nil {
			return nil, fmt.Errorf("controller %s: %w", one.name, err)
		}
		all = append(all, Controller{one.name, c.Run})
	}
	return all, nil
}

// made erases the type of a constructor's result.
func made[C interface{ Run(context.Context) error }](f func(loop.Deps) (C, error)) func(loop.Deps) (interface{ Run(context.Context) error }, error) {
	return func(deps loop.Deps) (interface{ Run(context.Context) error }, error) { return f(deps) }
}
