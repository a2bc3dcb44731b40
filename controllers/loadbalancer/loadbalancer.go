// Package loadbalancer gives services of type LoadBalancer addresses outside of the cluster
// where no cloud does: those of the nodes.
//
// The one idea: each node's service proxy already answers at any address that a service's
// status names, so that a load balancer is nothing but a fair choice of who has which port of
// which node. Who has it keeps it; a service that comes later is told who, and gets it when it is free.
//
// Services with a loadBalancerClass of somebody else are left alone, and all of them under
// --service-lb=false or --cloud-provider=external, where the cloud's own controller manager
// does it. Used by controllers.All.
package loadbalancer

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

// all is the only key: who has what follows from all services together.
const all = "services"

// Controller is the loop.
type Controller struct {
	*loop.Loop[string]
	deps     loop.Deps
	services corelisters.ServiceLister
	nodes    corelisters.NodeLister
	pods     corelisters.PodLister
	slices   discoverylisters.EndpointSliceLister
	recorder record.EventRecorder
	told     map[loop.Key]string // why a service has no address, as it was told
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	core, discovery := deps.Informers.Core().V1(), deps.Informers.Discovery().V1()
	c := &Controller{
		deps: deps, services: core.Services().Lister(), nodes: core.Nodes().Lister(), pods: core.Pods().Lister(),
		slices: discovery.EndpointSlices().Lister(), recorder: deps.Recorder("service-controller"), told: map[loop.Key]string{},
	}
	c.Loop = loop.New("loadbalancer", deps, c.reconcile)
	c.Watch(core.Services().Informer(), when(ours))
	c.Watch(core.Pods().Informer(), when(func(p *corev1.Pod) bool { return p.Spec.NodeName != "" && hasHostPort(p) }))
	c.Watch(discovery.EndpointSlices().Informer(), when(c.matters))
	c.Handle(core.Nodes().Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { c.Add(all) },
		UpdateFunc: func(old, now any) { c.ofNode(old, now) },
		DeleteFunc: func(any) { c.Add(all) },
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 1) }

// when asks for a look at everything when an object is of interest.
func when[T any](interesting func(T) bool) func(any) []string {
	return func(obj any) []string {
		if o, ok := obj.(T); ok && interesting(o) {
			return []string{all}
		}
		return nil
	}
}

// matters tells whether a slice says where a service's clients may go in.
func (c *Controller) matters(slice *discoveryv1.EndpointSlice) bool {
	s, err := c.services.Services(slice.Namespace).Get(slice.Labels[discoveryv1.LabelServiceName])
	return err == nil && ours(s) && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// ofNode passes over what a node says every few minutes of itself.
func (c *Controller) ofNode(old, now any) {
	was, ok := old.(*corev1.Node)
	is, ok2 := now.(*corev1.Node)
	if ok && ok2 && (serves(was) != serves(is) || !equality.Semantic.DeepEqual(was.Status.Addresses, is.Status.Addresses)) {
		c.Add(all)
	}
}

func (c *Controller) reconcile(ctx context.Context, _ string) error {
	services, err := c.services.List(labels.Everything())
	if err != nil {
		return err
	}
	var mine []*corev1.Service
	for _, s := range services {
		if ours(s) {
			mine = append(mine, s)
		}
	}
	if len(mine) == 0 {
		clear(c.told)
		return nil
	}
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return err
	}
	taken, err := c.taken(nodes)
	if err != nil {
		return err
	}
	given, why := share(mine, nodes, taken, c.local)
	told := map[loop.Key]string{}
	var failed error
	for _, s := range mine {
		key := loop.Key{Namespace: s.Namespace, Name: s.Name}
		if reason := why[s]; reason != "" {
			if told[key] = reason; c.told[key] != reason {
				c.recorder.Event(s, corev1.EventTypeWarning, "SyncLoadBalancerFailed", "Error syncing load balancer: "+reason)
			}
		}
		if err := c.write(ctx, s, given[s]); err != nil {
			failed = err
		}
	}
	c.told = told
	return failed
}

// write tells the service's clients where it is.
func (c *Controller) write(ctx context.Context, s *corev1.Service, given []netip.Addr) error {
	want := status(s, given)
	if want == nil {
		return nil
	}
	changed := s.DeepCopy()
	changed.Status.LoadBalancer = *want
	if _, err := c.deps.Client.CoreV1().Services(s.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{}); err != nil {
		return loop.Gone(err)
	}
	if len(given) == 0 {
		return nil
	}
	reason, text := "EnsuredLoadBalancer", "Ensured load balancer"
	if len(s.Status.LoadBalancer.Ingress) > 0 {
		reason, text = "UpdatedLoadBalancer", "Updated load balancer with new hosts"
	}
	c.recorder.Event(s, corev1.EventTypeNormal, reason, text)
	return nil
}

// local are the nodes with a ready endpoint of a service.
func (c *Controller) local(s *corev1.Service) map[string]bool {
	list, err := c.slices.EndpointSlices(s.Namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: s.Name}))
	if err != nil {
		return nil // a lister of a cache does not fail
	}
	return endpointNodes(list)
}

// taken are the doors that are in use already: those of the API, of kubelets, and of pods
// with a port of their node.
func (c *Controller) taken(nodes []*corev1.Node) (map[door]string, error) {
	out := map[door]string{}
	slices, err := c.slices.EndpointSlices(metav1.NamespaceDefault).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: "kubernetes"}))
	if err != nil {
		return nil, err
	}
	for _, s := range slices {
		for _, e := range s.Endpoints {
			for _, text := range e.Addresses {
				a, err := netip.ParseAddr(text)
				for _, p := range s.Ports {
					if err == nil && p.Port != nil {
						out[door{a, corev1.ProtocolTCP, *p.Port}] = "the API"
					}
				}
			}
		}
	}
	at := map[string][]netip.Addr{}
	for _, n := range nodes {
		at[n.Name] = addresses(n)
		for _, a := range at[n.Name] {
			out[door{a, corev1.ProtocolTCP, n.Status.DaemonEndpoints.KubeletEndpoint.Port}] = "the kubelet of " + n.Name
		}
	}
	pods, err := c.pods.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		eachHostPort(p, func(port *corev1.ContainerPort) {
			for _, a := range at[p.Spec.NodeName] {
				out[door{a, port.Protocol, port.HostPort}] = fmt.Sprintf("pod %s/%s", p.Namespace, p.Name)
			}
		})
	}
	return out, nil
}

func hasHostPort(p *corev1.Pod) (has bool) {
	eachHostPort(p, func(*corev1.ContainerPort) { has = true })
	return has
}

func eachHostPort(p *corev1.Pod, f func(*corev1.ContainerPort)) {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			for k := range list[i].Ports {
				if port := &list[i].Ports[k]; port.HostPort > 0 {
					f(port)
				}
			}
		}
	}
}
