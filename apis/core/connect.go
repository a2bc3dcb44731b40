package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/apis/api"
)

// Verbs of subresources that upgrade, and of those that pass any request on.
var (
	streamVerbs = []string{"create", "get"}
	proxyVerbs  = []string{"create", "delete", "get", "patch", "update"}
)

// podConnects are what kubectl logs, exec, attach, port-forward and proxy speak to.
var podConnects = []api.Connect{
	{Name: "attach", Kind: "PodAttachOptions", Verbs: streamVerbs, New: func() runtime.Object { return &corev1.PodAttachOptions{} }},
	{Name: "exec", Kind: "PodExecOptions", Verbs: streamVerbs, New: func() runtime.Object { return &corev1.PodExecOptions{} }},
	{Name: "log", Kind: "Pod", Verbs: []string{"get"}, New: func() runtime.Object { return &corev1.PodLogOptions{} }},
	{Name: "portforward", Kind: "PodPortForwardOptions", Verbs: streamVerbs, New: func() runtime.Object { return &corev1.PodPortForwardOptions{} }},
	proxyConnect("PodProxyOptions", func() runtime.Object { return &corev1.PodProxyOptions{} }),
}

func proxyConnect(kind string, options func() runtime.Object) api.Connect {
	return api.Connect{Name: "proxy", Kind: kind, Verbs: proxyVerbs, New: options}
}

func newNodeProxyOptions() runtime.Object    { return &corev1.NodeProxyOptions{} }
func newServiceProxyOptions() runtime.Object { return &corev1.ServiceProxyOptions{} }
