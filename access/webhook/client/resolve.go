package client

import (
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/internal/endpoints"
)

var services = schema.GroupResource{Resource: "services"}

// Resolve gives an address, host:port, at which a service answers on its port now: one of
// its ready endpoints.
func (c *Clients) Resolve(namespace, name string, port int32) (string, error) {
	all, err := c.addresses(service{namespace, name, port})
	if err != nil {
		return "", err
	}
	return endpoints.Pick(all), nil
}

// addresses of a service; at least one.
func (c *Clients) addresses(s service) ([]string, error) {
	obj, ok := c.reader.Get(services, s.namespace, s.name)
	svc, isService := obj.(*corev1.Service)
	if !ok || !isService {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "service"}, s.name) // as clients know it
	}
	number := strconv.Itoa(int(s.port))
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return []string{net.JoinHostPort(svc.Spec.ExternalName, number)}, nil
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.Port != s.port || p.Protocol != corev1.ProtocolTCP && p.Protocol != "" {
			continue
		}
		if ready, _ := endpoints.Ready(c.reader, s.namespace, s.name, p.Name); len(ready) > 0 {
			return ready, nil
		}
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", s.name))
	}
	return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", s.port, s.name))
}
