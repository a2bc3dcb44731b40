package cluster

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/policy"
	"github.com/proa-dev/proa/access/webhook"
	"github.com/proa-dev/proa/access/webhook/client"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
)

// admission is the whole chain: the built-in steps, then what users add: policies before
// webhooks, since they cost no round trip.
func (c *controlPlane) admission(reader api.Reader, authorizer access.Authorizer, list *catalog.Catalog) (admission.Chain, error) {
	settings, err := admission.ReadSettings(c.cfg.AdmissionConfig)
	if err != nil {
		return nil, fmt.Errorf("--admission-control-config-file: %w", err)
	}
	chain, err := admission.DefaultChain(admission.Env{Reader: reader, Authorizer: authorizer, RBAC: c.rbac, Settings: settings, Log: c.log})
	if err != nil {
		return nil, err
	}
	log := c.log.With("part", "admission")
	kinds := catalog.NewVersions(list)
	policies := policy.New(policy.Config{
		Reader: reader, Kinds: kinds, Authorizer: authorizer, Log: log,
		Merge: func(k *api.Kind, obj runtime.Object, configuration map[string]any) (runtime.Object, error) {
			return c.server.Merge(k, obj, configuration) // there is one by the time that anybody asks
		},
	})
	hooks := webhook.New(webhook.Config{
		Reader: reader, Kinds: kinds, Authorizer: authorizer, Log: log,
		Clients: client.New(client.Config{Reader: reader, Log: log}),
	})
	return append(chain, policies.Mutating(), hooks.Mutating(), policies.Parameters(), policies.Validating(), hooks.Validating()), nil
}
