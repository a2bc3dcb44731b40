package cluster

import (
	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/webhook"
	"github.com/proa-dev/proa/access/webhook/client"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
)

// admission is the whole chain: the built-in steps, then what users add: policies before
// webhooks, since they cost no round trip.
func (c *controlPlane) admission(reader api.Reader, authorizer access.Authorizer, list *catalog.Catalog) (admission.Chain, error) {
	chain, err := admission.DefaultChain(admission.Env{Reader: reader, Authorizer: authorizer, RBAC: c.rbac, Log: c.log})
	if err != nil {
		return nil, err
	}
	log := c.log.With("part", "admission")
	hooks := webhook.New(webhook.Config{
		Reader: reader, Kinds: catalog.NewVersions(list), Authorizer: authorizer,
		Clients: client.New(client.Config{Reader: reader, Log: log}), Log: log,
	})
	return append(chain, hooks.Mutating(), hooks.Validating()), nil
}
