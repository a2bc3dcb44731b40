package nodeproxy

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

var (
	podResource  = schema.GroupResource{Resource: "pods"}
	nodeResource = schema.GroupResource{Resource: "nodes"}
	svcResource  = schema.GroupResource{Resource: "services"}
)

// locate decides where a request goes.
func (p *Proxy) locate(r *http.Request, req Request) (target, error) {
	switch gr := req.Kind.GroupResource(); {
	case gr == podResource && req.Subresource == "log":
		return p.logLocation(req, r.URL.Query())
	case gr == podResource && (req.Subresource == "exec" || req.Subresource == "attach"):
		return p.execLocation(req, r.URL.Query())
	case gr == podResource && req.Subresource == "portforward":
		return p.portForwardLocation(req, r.URL.Query())
	case gr == podResource && req.Subresource == "proxy":
		return p.podProxyLocation(r, req)
	case gr == svcResource && req.Subresource == "proxy":
		return p.serviceProxyLocation(r, req)
	case gr == nodeResource && req.Subresource == "proxy":
		return p.nodeProxyLocation(r, req)
	}
	return target{}, apierrors.NewNotFound(req.Kind.GroupResource(), req.Name)
}

func (p *Proxy) pod(req Request) (*corev1.Pod, error) {
	if obj, ok := p.reader.Get(podResource, req.Namespace, req.Name); ok {
		return obj.(*corev1.Pod), nil
	}
	return nil, apierrors.NewNotFound(podResource, req.Name)
}

// kubeletURL is the base of a node's kubelet.
func (p *Proxy) kubeletURL(node string) (*url.URL, error) {
	obj, ok := p.reader.Get(nodeResource, "", node)
	if !ok {
		return nil, apierrors.NewNotFound(nodeResource, node)
	}
	n := obj.(*corev1.Node)
	port := n.Status.DaemonEndpoints.KubeletEndpoint.Port
	if port == 0 {
		port = 10250
	}
	for _, want := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeHostName} {
		for _, a := range n.Status.Addresses {
			if a.Type == want {
				return &url.URL{Scheme: "https", Host: net.JoinHostPort(a.Address, strconv.Itoa(int(port)))}, nil
			}
		}
	}
	return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
		Message: fmt.Sprintf("no preferred addresses found; known addresses: %v", n.Status.Addresses),
	}}
}

// podKubelet is the base of the kubelet that runs the pod.
func (p *Proxy) podKubelet(pod *corev1.Pod) (*url.URL, error) {
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	return p.kubeletURL(pod.Spec.NodeName)
}

// container checks the name of a container, or finds the only one.
func container(pod *corev1.Pod, name string) (string, error) {
	if name == "" {
		switch {
		case len(pod.Spec.Containers) == 1:
			return pod.Spec.Containers[0].Name, nil
		case len(pod.Spec.Containers) == 0:
			return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
		}
		text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name, containerNames(pod.Spec.Containers))
		if len(pod.Spec.InitContainers) > 0 {
			text += fmt.Sprintf(" or one of the init containers: %s", containerNames(pod.Spec.InitContainers))
		}
		return "", apierrors.NewBadRequest(text)
	}
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for _, c := range list {
			if c.Name == name {
				return name, nil
			}
		}
	}
	for _, c := range pod.Spec.EphemeralContainers {
		if c.Name == name {
			return name, nil
		}
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
}

func containerNames(containers []corev1.Container) []string {
	var names []string
	for _, c := range containers {
		names = append(names, c.Name)
	}
	return names
}

func (p *Proxy) execLocation(req Request, q url.Values) (target, error) {
	pod, err := p.pod(req)
	if err != nil {
		return target{}, err
	}
	name, err := container(pod, q.Get("container"))
	if err != nil {
		return target{}, err
	}
	u, err := p.podKubelet(pod)
	if err != nil {
		return target{}, err
	}
	if req.Subresource == "exec" && (len(q["command"]) == 0 || q["command"][0] == "") {
		return target{}, apierrors.NewBadRequest("you must specify at least 1 command for the container")
	}
	params := url.Values{}
	streams := false
	for theirs, ours := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
		if flag(q, theirs) {
			params.Set(ours, "1")
			streams = streams || theirs != "tty"
		}
	}
	if !streams {
		return target{}, apierrors.NewBadRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	for _, c := range q["command"] {
		params.Add("command", c)
	}
	u.Path = "/" + req.Subresource + "/" + pod.Namespace + "/" + pod.Name + "/" + name
	u.RawQuery = params.Encode()
	return target{url: u, node: pod.Spec.NodeName, upgrade: true, stream: true}, nil
}

func (p *Proxy) portForwardLocation(req Request, q url.Values) (target, error) {
	pod, err := p.pod(req)
	if err != nil {
		return target{}, err
	}
	params := url.Values{}
	for _, list := range q["ports"] {
		for port := range strings.SplitSeq(list, ",") {
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				return target{}, apierrors.NewBadRequest(fmt.Sprintf("unable to parse %q as a port", port))
			}
			params.Add("port", port)
		}
	}
	u, err := p.podKubelet(pod)
	if err != nil {
		return target{}, err
	}
	u.Path = "/portForward/" + pod.Namespace + "/" + pod.Name
	u.RawQuery = params.Encode()
	return target{url: u, node: pod.Spec.NodeName, upgrade: true, stream: true}, nil
}

func (p *Proxy) nodeProxyLocation(r *http.Request, req Request) (target, error) {
	_, name, port, valid := utilnet.SplitSchemeNamePort(req.Name)
	if !valid {
		return target{}, apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q", req.Name))
	}
	u, err := p.kubeletURL(name)
	if err != nil {
		return target{}, err
	}
	// Another port than the kubelet's could be anything on the machine.
	if port != "" && port != u.Port() {
		return target{}, apierrors.NewBadRequest(fmt.Sprintf("port %s of node %s is not its kubelet's", port, name))
	}
	u.Path, u.RawQuery = req.Path, r.URL.RawQuery
	return target{url: u, node: name, stream: true}, nil
}

func (p *Proxy) podProxyLocation(r *http.Request, req Request) (target, error) {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(req.Name)
	if !valid {
		return target{}, apierrors.NewBadRequest(fmt.Sprintf("invalid pod request %q", req.Name))
	}
	req.Name = name
	pod, err := p.pod(req)
	if err != nil {
		return target{}, err
	}
	if port == "" {
		for _, c := range pod.Spec.Containers {
			if len(c.Ports) > 0 {
				port = strconv.Itoa(int(c.Ports[0].ContainerPort))
				break
			}
		}
	}
	return backend(r, req, scheme, pod.Status.PodIP, port)
}

// backend is a pod's address, if it is one that may be proxied to.
func backend(r *http.Request, req Request, scheme, ip, port string) (target, error) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return target{}, apierrors.NewBadRequest("address not allowed")
	}
	// A pod's status is written by its node: it must not aim the server at itself.
	if !outside(addr.Unmap()) {
		return target{}, apierrors.NewBadRequest("address not allowed")
	}
	if scheme == "" {
		scheme = "http"
	}
	host := addr.String()
	if port != "" {
		host = net.JoinHostPort(host, port)
	}
	return target{url: &url.URL{Scheme: scheme, Host: host, Path: req.Path, RawQuery: r.URL.RawQuery}, stream: true}, nil
}

// flag reads a boolean of a query as the API does: what is there and does not say no is yes.
func flag(q url.Values, name string) bool {
	values := q[name]
	return len(values) > 0 && values[0] != "0" && !strings.EqualFold(values[0], "false")
}
