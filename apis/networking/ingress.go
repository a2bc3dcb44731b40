package networking

import (
	"fmt"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

type ingress = *networkingv1.Ingress

// classAnnotation named the class before spec.ingressClassName did.
const classAnnotation = "kubernetes.io/ingress.class"

const shownHosts = 3

var ingresses = api.Define(api.Resource[ingress]{
	Group: networkingv1.GroupName, Version: "v1", Kind: "Ingress", Plural: "ingresses", Short: []string{"ing"}, Namespaced: true,
	Prefix:              "ingress",
	UnconditionalUpdate: true,
	HasGeneration:       true,
	HasStatus:           true,
	Validate:            validateIngress,
	ValidateCreate:      validateNewIngress,
	ValidateStatus: func(i, _ ingress) field.ErrorList {
		return validateIngressStatus(&i.Status.LoadBalancer, field.NewPath("status", "loadBalancer"))
	},
	Warnings: func(i, old ingress) []string {
		if _, ok := i.Annotations[classAnnotation]; ok && old == nil && i.Spec.IngressClassName == nil {
			return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", classAnnotation)}
		}
		return nil
	},
	Columns: []api.Column[ingress]{
		api.Text("Class", "The name of the IngressClass resource that should be used for additional configuration", ingressClassOf),
		api.Text("Hosts", "Hosts that incoming requests are matched against before the ingress rule", ingressHosts),
		api.Text("Address", "Address is a list containing ingress points for the load-balancer", ingressAddress),
		api.Text("Ports", "Ports of TLS configurations that open", func(i ingress) string {
			if len(i.Spec.TLS) > 0 {
				return "80, 443"
			}
			return "80"
		}),
		api.Age[ingress](),
	},
})

func ingressClassOf(i ingress) string {
	if i.Spec.IngressClassName != nil {
		return *i.Spec.IngressClassName
	}
	return none
}

func ingressHosts(i ingress) string {
	var hosts []string
	for n, rule := range i.Spec.Rules {
		if len(hosts) == shownHosts {
			return fmt.Sprintf("%s + %d more...", strings.Join(hosts, ","), len(i.Spec.Rules)-n)
		}
		if rule.Host != "" {
			hosts = append(hosts, rule.Host)
		}
	}
	if len(hosts) == 0 {
		return "*"
	}
	return strings.Join(hosts, ",")
}

func ingressAddress(i ingress) string {
	var list []string
	for _, point := range i.Status.LoadBalancer.Ingress {
		if point.IP != "" {
			list = append(list, point.IP)
		} else if point.Hostname != "" {
			list = append(list, point.Hostname)
		}
	}
	return strings.Join(list, ",")
}
