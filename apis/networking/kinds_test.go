package networking

import (
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/apis/api"
)

// problems decodes, defaults and validates a new object, as the server does.
func problems(t *testing.T, k *api.Kind, text string) []string {
	t.Helper()
	obj := k.New()
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatal(err)
	}
	k.Default(obj)
	var list []string
	for _, err := range append(k.Validate(obj), k.ValidateCreate(obj)...) {
		list = append(list, err.Error())
	}
	return list
}

func TestRefusals(t *testing.T) {
	const backend = "backend: {service: {name: s, port: {number: 80}}}"
	rule := func(path string) string { return "spec: {rules: [{http: {paths: [{" + path + "}]}}]}" }
	const path = "spec.rules[0].http.paths[0]."
	for _, c := range []struct {
		kind *api.Kind
		text string
		want []string
	}{
		{ingresses, "spec: {}", []string{"spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"}},
		{ingresses, rule("path: /, pathType: Exact, " + backend), nil},
		{ingresses, rule(backend), []string{path + "pathType: Required value: pathType must be specified"}},
		{ingresses, rule("path: a, pathType: Prefix, " + backend), []string{path + `path: Invalid value: "a": must be an absolute path`}},
		{ingresses, rule("path: /a/../b, pathType: Prefix, " + backend), []string{path + `path: Invalid value: "/a/../b": must not contain '/../'`}},
		{ingresses, rule("path: /a/.., pathType: Prefix, " + backend), []string{path + `path: Invalid value: "/a/..": cannot end with '/..'`}},
		{ingresses, rule("path: /, pathType: Odd, " + backend), []string{path + `pathType: Unsupported value: "Odd": supported values: "Exact", "ImplementationSpecific", "Prefix"`}},
		{ingresses, rule("path: /, pathType: Prefix, backend: {}"), []string{path + `backend: Invalid value: "": resource or service backend is required`}},
		{ingresses, rule("path: /, pathType: Prefix, backend: {service: {name: s, port: {}}}"), []string{path + "backend: Required value: port name or number is required"}},
		{ingresses, "spec: {rules: [{host: 1.2.3.4}]}", []string{`spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address`}},
		{ingresses, "{metadata: {annotations: {kubernetes.io/ingress.class: a}}, spec: {ingressClassName: b, rules: [{host: x.com}]}}",
			[]string{"annotations.kubernetes.io/ingress.class: Invalid value: \"a\": must match `ingressClassName` when both are specified"}},
		{ingressClasses, "spec: {controller: example.com/c}", nil},
		{ingressClasses, "spec: {controller: example.com/c, parameters: {kind: K, name: n, scope: Namespace}}", []string{"spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"}},
		{ingressClasses, "spec: {controller: example.com/c, parameters: {kind: K, name: n, namespace: x}}", []string{"spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"}},
		{networkPolicies, "spec: {podSelector: {}}", nil},
		{networkPolicies, "spec: {podSelector: {}, ingress: [{from: [{}]}]}", []string{"spec.ingress[0].from[0]: Required value: must specify a peer"}},
		{networkPolicies, "spec: {podSelector: {}, egress: [{to: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}", []string{"spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer"}},
		{networkPolicies, "spec: {podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8, 11.0.0.0/16]}}]}]}", []string{
			"spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
			"spec.egress[0].to[0].ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"}},
		{networkPolicies, "spec: {podSelector: {}, ingress: [{ports: [{port: 90, endPort: 80}, {port: http, endPort: 80}, {endPort: 80}]}]}", []string{
			"spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
			"spec.ingress[0].ports[1].endPort: Invalid value: 80: may not be specified when `port` is non-numeric",
			"spec.ingress[0].ports[2].endPort: Invalid value: 80: may not be specified when `port` is not specified"}},
		{networkPolicies, "spec: {podSelector: {}, policyTypes: [Ingres]}", []string{`spec.policyTypes[0]: Unsupported value: "Ingres": supported values: "Ingress", "Egress"`}},
		{ipAddresses, "spec: {}", []string{"spec.parentRef: Required value"}},
		{ipAddresses, "spec: {parentRef: {}}", []string{"spec.parentRef.resource: Required value", "spec.parentRef.name: Required value"}},
		{serviceCIDRs, "spec: {}", []string{"spec.cidrs: Required value: at least one CIDR required"}},
		{serviceCIDRs, "spec: {cidrs: [10.0.0.0/8, 11.0.0.0/8]}", []string{`spec.cidrs: Invalid value: ["10.0.0.0/8","11.0.0.0/8"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64`}},
	} {
		if got := problems(t, c.kind, c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s %s:\n got %s\nwant %s", c.kind.Kind, c.text, strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
		}
	}
}

func TestPolicyTypesFollowTheRules(t *testing.T) {
	for text, want := range map[string]string{
		"spec: {podSelector: {}}":                                      "Ingress",
		"spec: {podSelector: {}, egress: [{}]}":                        "Ingress Egress",
		"spec: {podSelector: {}, egress: [{}], policyTypes: [Egress]}": "Egress",
	} {
		p := &networkingv1.NetworkPolicy{}
		if err := yaml.Unmarshal([]byte(text), p); err != nil {
			t.Fatal(err)
		}
		networkPolicies.Default(p)
		var got []string
		for _, kind := range p.Spec.PolicyTypes {
			got = append(got, string(kind))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
}

func TestCIDRsOnlyGrow(t *testing.T) {
	for _, c := range []struct{ old, now, want string }{
		{"10.0.0.0/8", "10.0.0.0/8 fd00::/64", ""},
		{"10.0.0.0/8", "10.0.0.0/9", "spec.cidrs[0]"},
		{"10.0.0.0/8 fd00::/64", "10.0.0.0/8", "spec.cidrs"},
		{"10.0.0.0/8 fd00::/64", "10.0.0.0/8 fd01::/64", "spec.cidrs[1]"},
	} {
		old, now := &networkingv1.ServiceCIDR{}, &networkingv1.ServiceCIDR{}
		old.Spec.CIDRs, now.Spec.CIDRs = strings.Fields(c.old), strings.Fields(c.now)
		got := ""
		for _, err := range serviceCIDRs.ValidateUpdate(now, old) {
			got += err.Field
		}
		if got != c.want {
			t.Errorf("%s -> %s: %q, want %q", c.old, c.now, got, c.want)
		}
	}
	for name, ok := range map[string]bool{"10.0.0.1": true, "::1": true, "010.0.0.1": false, "2001:DB8::1": false, "x": false} {
		if got := ipAddresses.ValidateName(name, false); (len(got) == 0) != ok {
			t.Errorf("name %s: %v", name, got)
		}
	}
}
