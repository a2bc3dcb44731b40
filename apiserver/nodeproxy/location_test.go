package nodeproxy

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// objects is a reader of what a test made.
type objects map[string]api.Object

func (o objects) Get(gr schema.GroupResource, ns, name string) (api.Object, bool) {
	obj, ok := o[gr.Resource+"/"+ns+"/"+name]
	return obj, ok
}

func (o objects) List(gr schema.GroupResource, ns string) []api.Object {
	var all []api.Object
	for key, obj := range o {
		if strings.HasPrefix(key, gr.Resource+"/"+ns+"/") {
			all = append(all, obj)
		}
	}
	return all
}

func (o objects) Revision(schema.GroupResource) int64 { return 1 }

func kindOf(group, version, kind, plural string) *api.Kind {
	return &api.Kind{
		GroupVersionKind: schema.GroupVersionKind{Group: group, Version: version, Kind: kind},
		Resource:         schema.GroupVersionResource{Group: group, Version: version, Resource: plural},
	}
}

func world() objects {
	pod := func(name, ip string, containers ...string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{NodeName: "n"}}
		for _, c := range containers {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c, Ports: []corev1.ContainerPort{{ContainerPort: 80}}})
		}
		p.Status.PodIP = ip
		return p
	}
	homeless := pod("homeless", "", "c")
	homeless.Spec.NodeName = ""
	name, port := "web", int32(8080)
	return objects{
		"pods/ns/one": pod("one", "10.0.0.5", "c"), "pods/ns/two": pod("two", "10.0.0.6", "a", "b"),
		"pods/ns/evil": pod("evil", "127.0.0.1", "c"), "pods/ns/homeless": homeless,
		"nodes//n": &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n"}, {Type: corev1.NodeInternalIP, Address: "192.168.0.1"}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10251}},
		}},
		"services/ns/s": &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 80}}}},
		"endpointslices/ns/s-1": &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Name: "s-1", Labels: map[string]string{discoveryv1.LabelServiceName: "s"}},
			Ports:      []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.7"}}},
		},
	}
}

func TestLocate(t *testing.T) {
	p := New(Config{Reader: world(), Log: slog.New(slog.DiscardHandler)})
	pods, nodes, services := kindOf("", "v1", "Pod", "pods"), kindOf("", "v1", "Node", "nodes"), kindOf("", "v1", "Service", "services")
	cases := []struct {
		name  string
		kind  *api.Kind
		sub   string
		of    string
		path  string
		query string
		want  string // URL, or part of the error
	}{
		{"log", pods, "log", "one", "", "follow=true&tailLines=5", "https://192.168.0.1:10251/containerLogs/ns/one/c?follow=true&tailLines=5"},
		{"log of which container", pods, "log", "two", "", "", "a container name must be specified for pod two, choose one of: [a b]"},
		{"log of no container of the pod", pods, "log", "two", "", "container=x", "container x is not valid for pod two"},
		{"log, wrong tail", pods, "log", "one", "", "tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"},
		{"log since twice", pods, "log", "one", "", "sinceSeconds=1&sinceTime=2020-01-01T00:00:00Z", "at most one of `sinceTime` or `sinceSeconds` may be specified"},
		{"no such pod", pods, "log", "none", "", "", `pods "none" not found`},
		{"log of a pod without a node", pods, "log", "homeless", "", "", errNothing.Error()},
		{"pod without a node", pods, "exec", "homeless", "", "command=ls&stdout=true", "pod homeless does not have a host assigned"},
		{"exec", pods, "exec", "one", "", "command=ls&command=-l&stdout=true", "https://192.168.0.1:10251/exec/ns/one/c?command=ls&command=-l&output=1"},
		{"exec of nothing", pods, "exec", "one", "", "stdout=true", "you must specify at least 1 command"},
		{"exec without streams", pods, "exec", "one", "", "command=ls", "you must specify at least 1 of stdin, stdout, stderr"},
		{"port-forward", pods, "portforward", "one", "", "ports=80", "https://192.168.0.1:10251/portForward/ns/one?port=80"},
		{"port-forward to no port", pods, "portforward", "one", "", "ports=0", `unable to parse "0" as a port`},
		{"proxy to a pod", pods, "proxy", "one", "/a/b", "x=1", "http://10.0.0.5:80/a/b?x=1"},
		{"proxy to a pod's port, TLS", pods, "proxy", "https:one:8443", "", "", "https://10.0.0.5:8443"},
		{"proxy to loopback", pods, "proxy", "evil", "/", "", "address not allowed"},
		{"proxy to a service", services, "proxy", "s:web", "/x", "", "http://10.0.0.7:8080/x"},
		{"proxy to a service's wrong port", services, "proxy", "s:81", "/x", "", `no service port 81 found`},
		{"proxy to a node", nodes, "proxy", "n", "/healthz", "", "https://192.168.0.1:10251/healthz"},
		{"proxy to another port of a node", nodes, "proxy", "n:22", "/", "", "is not its kubelet's"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/?"+c.query, nil)
			got, err := p.locate(r, Request{Kind: c.kind, Subresource: c.sub, Namespace: "ns", Name: c.of, Path: c.path})
			if err != nil {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %q, want %q in it", err, c.want)
				}
				return
			}
			if got.url.String() != c.want {
				t.Errorf("got  %s\nwant %s", got.url, c.want)
			}
		})
	}
}
