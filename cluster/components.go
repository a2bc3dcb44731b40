package cluster

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/controllers"
	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/scheduler"
	"github.com/proa-dev/proa/store/source"
)

// eventSender sends the events of a process's components.
type eventSender struct {
	broadcaster record.EventBroadcaster
}

func newEvents(ctx context.Context, client kubernetes.Interface) *eventSender {
	b := record.NewBroadcaster(record.WithContext(ctx))
	b.StartRecordingToSink(&typedcore.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return &eventSender{b}
}

// recorder is a component's own; node is where it runs, "" for the control plane's.
func (e *eventSender) recorder(component, node string) record.EventRecorder {
	return e.broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component, Host: node})
}

// How the parts are called: the scheduler, and before the name of a controller.
const (
	schedulerPart  = "scheduler"
	controllerPart = "controller "
)

// startComponents starts the scheduler and the controllers, on informers that share the
// store's own objects. It makes all of them anew: a server may lead more than once.
func (c *controlPlane) startComponents(ctx context.Context, group *Group) error {
	ending := context.WithoutCancel(ctx)
	manager := c.local("system:kube-controller-manager", "system:masters")
	client, err := kubernetes.NewForConfig(manager)
	if err != nil {
		return err
	}
	meta, err := metadata.NewForConfig(manager)
	if err != nil {
		return err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(manager)
	if err != nil {
		return err
	}
	schedulerClient, err := kubernetes.NewForConfig(c.local("system:kube-scheduler"))
	if err != nil {
		return err
	}
	factory := source.NewFactory(c.store, client)
	sent, schedulerSent := newEvents(ending, client), newEvents(ending, schedulerClient)
	sched, err := scheduler.New(scheduler.Config{
		Client: schedulerClient, Informers: factory, Metrics: c.scheduling, Log: c.log.With("part", "scheduler"),
		Recorder: schedulerSent.recorder(scheduler.Name, ""),
	})
	if err != nil {
		return err
	}
	all, err := controllers.All(loop.Deps{
		Client: client, Metadata: meta, Discovery: disco, Informers: factory,
		Recorder: func(component string) record.EventRecorder { return sent.recorder(component, "") },
		Log:      c.log, Clock: clock.RealClock{}, Queues: c.queues, Figures: c.figures, RootCA: c.pki.CA.PEM, PodRange: c.cfg.ClusterCIDR, NodeMask: nodeMask,
		NodeGracePeriod: c.cfg.NodeGracePeriod, ServiceLB: c.cfg.serviceLB(), Signer: signer{c.pki.CA, c.store.Reader(), client},
	})
	if err != nil {
		return err
	}
	// The informers stop after those that use them: some are started by a loop.
	parts := []Part{
		{Name: "informers", Run: func(ctx context.Context) error {
			factory.StartWithContext(ctx)
			<-ctx.Done()
			factory.Shutdown()
			sent.broadcaster.Shutdown()
			schedulerSent.broadcaster.Shutdown()
			return nil
		}},
		{Name: schedulerPart, Run: sched.Run},
	}
	for _, one := range all {
		parts = append(parts, Part{Name: controllerPart + one.Name, Run: one.Run})
	}
	for _, p := range parts {
		if err := group.Start(ctx, p); err != nil {
			return err
		}
	}
	c.running.Store(group)
	return nil
}
