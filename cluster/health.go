package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/proa-dev/proa/apis/api"
)

// components are the parts of the control plane that ComponentStatus tells of, under the names
// that they have in Kubernetes. They are asked in this process, not at ports.
func (c *controlPlane) components() []api.Component {
	all := []api.Component{
		{Name: "controller-manager", Check: c.parts(func(part string) bool { return strings.HasPrefix(part, controllerPart) })},
		{Name: "scheduler", Check: c.parts(func(part string) bool { return part == schedulerPart })},
	}
	if len(c.cfg.EtcdServers) == 0 {
		return append(all, api.Component{Name: "etcd-0", Check: works(c.store.Health)})
	}
	for i, endpoint := range c.cfg.EtcdServers {
		all = append(all, api.Component{Name: fmt.Sprintf("etcd-%d", i), Check: works(func(ctx context.Context) error {
			return c.store.HealthAt(ctx, endpoint)
		})})
	}
	return all
}

// works says that something works unless asking it fails.
func works(ask func(context.Context) error) func(context.Context) (corev1.ConditionStatus, error) {
	return func(ctx context.Context) (corev1.ConditionStatus, error) {
		if err := ask(ctx); err != nil {
			return corev1.ConditionFalse, err
		}
		return corev1.ConditionTrue, nil
	}
}

// parts asks those parts of this process that are meant. Before the first of them is started
// nothing is known.
func (c *controlPlane) parts(meant func(part string) bool) func(context.Context) (corev1.ConditionStatus, error) {
	return func(context.Context) (corev1.ConditionStatus, error) {
		if c.follows.Load() {
			return corev1.ConditionTrue, nil // another server's to tell
		}
		group := c.running.Load()
		if group == nil {
			return corev1.ConditionUnknown, errNotStarted
		}
		switch err := group.Health(meant); {
		case errors.Is(err, errNotStarted):
			return corev1.ConditionUnknown, err
		case err != nil:
			why, _, _ := strings.Cut(err.Error(), "\n") // without the stack of a panic
			return corev1.ConditionFalse, errors.New(why)
		}
		return corev1.ConditionTrue, nil
	}
}
