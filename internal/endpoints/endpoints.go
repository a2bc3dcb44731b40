// Package endpoints finds the addresses that answer for a service at this moment.
//
// The one idea: who calls a service from outside the pod network's rules goes straight to one
// of its ready endpoints.
//
// Used by apiserver (proxies, aggregated servers, conversions) and access (webhooks).
package endpoints

import (
	"math/rand/v2"
	"net"
	"strconv"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// Slices is the resource that endpoints are read from.
var Slices = schema.GroupResource{Group: discoveryv1.GroupName, Resource: "endpointslices"}

// Ready gives the addresses (host:port) of the ready endpoints of a service's port, which is
// named as in the service, "" for one without a name; and whether the service has any slice.
func Ready(reader api.Reader, namespace, service, port string) (ready []string, exists bool) {
	for _, obj := range reader.List(Slices, namespace) {
		s, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok || s.Labels[discoveryv1.LabelServiceName] != service {
			continue
		}
		exists = true
		for _, p := range s.Ports {
			name := ""
			if p.Name != nil {
				name = *p.Name
			}
			if p.Port != nil && name == port {
				ready = append(ready, addresses(s, int(*p.Port))...)
			}
		}
	}
	return ready, exists
}

func addresses(s *discoveryv1.EndpointSlice, port int) (ready []string) {
	for _, e := range s.Endpoints {
		if len(e.Addresses) > 0 && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
			ready = append(ready, net.JoinHostPort(e.Addresses[0], strconv.Itoa(port)))
		}
	}
	return ready
}

// Pick takes one by chance; there must be one.
func Pick(addresses []string) string { return addresses[rand.IntN(len(addresses))] }
