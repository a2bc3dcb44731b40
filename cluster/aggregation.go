package cluster

import (
	"github.com/proa-dev/proa/apiserver/aggregate"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/pki"
)

// aggregation makes what serves the APIs of other servers, with the certificate by which it
// speaks for users.
func (c *controlPlane) aggregation(list *catalog.Catalog) (err error) {
	leaf := pki.Leaf{CommonName: aggregate.ProxyName, Client: true}
	if c.toBackends, err = c.pki.RenewingFile(c.pki.FrontProxy, aggregate.ProxyName, leaf, c.log); err != nil {
		return err
	}
	c.aggregator, err = aggregate.New(aggregate.Config{
		Store: c.store, Catalog: list, CustomLoaded: c.custom.Ready(), ClientCertificate: c.toBackends.GetClientCertificate, Log: c.log.With("part", "aggregation"),
	})
	return err
}
