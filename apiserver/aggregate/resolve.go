package aggregate

import (
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apiregistration"
	"github.com/proa-dev/proa/internal/endpoints"
)

// reference is the service that an APIService names, with its port.
type reference struct {
	namespace, name string
	port            int32
}

func referenceOf(s *apiregistrationv1.APIService) reference {
	r := reference{namespace: s.Spec.Service.Namespace, name: s.Spec.Service.Name, port: apiregistration.DefaultPort}
	if p := s.Spec.Service.Port; p != nil {
		r.port = *p
	}
	return r
}

func (r reference) key() string { return r.namespace + "/" + r.name }

// host is the name that the backend's certificate must hold.
func (r reference) host() string { return r.name + "." + r.namespace + ".svc" }

func (r reference) String() string {
	return fmt.Sprintf("service/%s in %q", r.name, r.namespace)
}

// missing is why a service cannot be reached, as an APIService's condition says it.
type missing struct{ reason, message string }

func (m *missing) Error() string { return m.message }

// resolve finds the addresses (host:port) of a service's ready endpoints.
func resolve(reader api.Reader, r reference) ([]string, *missing) {
	obj, _ := reader.Get(services, r.namespace, r.name)
	s, ok := obj.(*corev1.Service)
	if !ok {
		return nil, &missing{"ServiceNotFound", r.String() + " is not present"}
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return []string{net.JoinHostPort(s.Spec.ExternalName, strconv.Itoa(int(r.port)))}, nil
	}
	var port *corev1.ServicePort
	for i := range s.Spec.Ports {
		if s.Spec.Ports[i].Port == r.port {
			port = &s.Spec.Ports[i]
			break
		}
	}
	if port == nil {
		return nil, &missing{"ServicePortError", fmt.Sprintf("%s is not listening on port %d", r, r.port)}
	}
	ready, any := endpoints.Ready(reader, r.namespace, r.name, port.Name)
	switch {
	case len(ready) > 0:
		return ready, nil
	case !any:
		return nil, &missing{"EndpointsNotFound", fmt.Sprintf("cannot find endpointslices for %s", r)}
	}
	return nil, &missing{"MissingEndpoints", fmt.Sprintf("endpointslices for %s have no addresses with port name %q", r, port.Name)}
}
