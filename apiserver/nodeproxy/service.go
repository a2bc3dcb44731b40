package nodeproxy

import (
	"fmt"
	"net"
	"net/http"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/proa-dev/proa/internal/endpoints"
)

// serviceProxyLocation picks one ready endpoint of a service. The name may carry a
// scheme and a port, by name or number: https:web:443.
func (p *Proxy) serviceProxyLocation(r *http.Request, req Request) (target, error) {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(req.Name)
	if !valid {
		return target{}, apierrors.NewBadRequest(fmt.Sprintf("invalid service request %q", req.Name))
	}
	obj, ok := p.reader.Get(svcResource, req.Namespace, name)
	if !ok {
		return target{}, noEndpoints(name) // as of one that is there
	}
	portName, err := servicePort(obj.(*corev1.Service), port)
	if err != nil {
		return target{}, err
	}
	ready, _ := endpoints.Ready(p.reader, req.Namespace, name, portName)
	if len(ready) == 0 {
		return target{}, noEndpoints(name)
	}
	ip, number, err := net.SplitHostPort(endpoints.Pick(ready))
	if err != nil {
		return target{}, apierrors.NewBadRequest("address not allowed")
	}
	return backend(r, req, scheme, ip, number)
}

func noEndpoints(name string) error {
	return apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
}

// servicePort gives the name of the port meant: by name, by number, or the only one.
func servicePort(s *corev1.Service, port string) (string, error) {
	if port == "" && len(s.Spec.Ports) == 1 {
		return s.Spec.Ports[0].Name, nil
	}
	for _, sp := range s.Spec.Ports {
		if sp.Name == port || strconv.Itoa(int(sp.Port)) == port {
			return sp.Name, nil
		}
	}
	if _, err := strconv.Atoi(port); err != nil {
		return "", noEndpoints(s.Name)
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %s found for service %q", port, s.Name))
}
