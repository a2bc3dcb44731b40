package cluster

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// uninitialized keeps pods away from a node until the controller manager of the cloud knows it
// (k8s.io/cloud-provider/api).
var uninitialized = corev1.Taint{Key: "node.cloudprovider.kubernetes.io/uninitialized", Value: "true", Effect: corev1.TaintEffectNoSchedule}

// proxyHealth is the port at which load balancers of a cloud ask for the health of the
// service proxy, kube-proxy's.
const proxyHealth = 10256

func (c *NodeConfig) healthPort() int {
	if c.CloudProvider == "" {
		return 0
	}
	return proxyHealth
}

// serviceLB says whether services of type LoadBalancer get addresses of nodes: not where a cloud serves them.
func (c *ServerConfig) serviceLB() bool {
	return !c.NoServiceLB && c.NodeConfig.CloudProvider == ""
}

// taints are those that the node registers with.
func (c *NodeConfig) taints() ([]corev1.Taint, error) {
	var out []corev1.Taint
	for _, text := range c.Taints {
		t, err := parseTaint(text)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	if c.CloudProvider != "" {
		out = append(out, uninitialized)
	}
	return out, nil
}

func parseTaint(text string) (corev1.Taint, error) {
	rest, effect, ok := strings.Cut(text, ":")
	key, value, _ := strings.Cut(rest, "=")
	t := corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}
	effects := []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
	if problems := slices.Concat(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)); len(problems) > 0 || !ok || !slices.Contains(effects, t.Effect) {
		return t, fmt.Errorf("--node-taint %s: must be key=value:effect, the effect one of %v %s", text, effects, strings.Join(problems, "; "))
	}
	return t, nil
}
