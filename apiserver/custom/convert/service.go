package convert

import (
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/endpoints"
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
		ready, _ := endpoints.Ready(reader, namespace, name, portName)
		if len(ready) == 0 {
			return "", fmt.Errorf("no endpoints available for service %q", name)
		}
		return endpoints.Pick(ready), nil
	}
}
