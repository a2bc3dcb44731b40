package convert

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// Endpoints finds a service by one of its endpoints that is ready, which works where the
// service's own address does not.
func Endpoints(reader api.Reader) Resolve {
	return func(namespace, name string, port int32) (string, error) {
		obj, ok := reader.Get(schema.GroupResource{Resource: "services"}, namespace, name)
		if !ok {
			return "", fmt.Errorf("service %q not found", name)
		}
		service, ok := obj.(*corev1.Service)
		if !ok {
			return "", fmt.Errorf("service %q is a %T", name, obj)
		}
		if service.Spec.Type == corev1.ServiceTypeExternalName {
			return net.JoinHostPort(service.Spec.ExternalName, strconv.Itoa(int(port))), nil
		}
		portName, found := "", false
		for _, p := range service.Spec.Ports {
			if p.Port == port {
				portName, found = p.Name, true
			}
		}
		if !found {
			return "", fmt.Errorf("no service port %d found for service %q", port, name)
		}
		var ready []string
		for _, o := range reader.List(schema.GroupResource{Group: discoveryv1.GroupName, Resource: "endpointslices"}, namespace) {
			if s, ok := o.(*discoveryv1.EndpointSlice); ok && s.Labels[discoveryv1.LabelServiceName] == name {
				ready = append(ready, addresses(s, portName)...)
			}
		}
		if len(ready) == 0 {
			return "", fmt.Errorf("no endpoints available for service %q", name)
		}
		return ready[rand.IntN(len(ready))], nil
	}
}

// addresses are those of a slice that are ready, with a port.
func addresses(s *discoveryv1.EndpointSlice, portName string) (all []string) {
	for _, p := range s.Ports {
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		if p.Port == nil || name != portName {
			continue
		}
		for _, e := range s.Endpoints {
			if len(e.Addresses) > 0 && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				all = append(all, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
			}
		}
	}
	return all
}
