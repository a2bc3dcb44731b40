package core

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/apis/api"
)

// ComponentStatuses tell whether the parts of the control plane work, at the moment of asking.
var ComponentStatuses = api.DefineComputed(api.Computed[*corev1.ComponentStatus]{
	Version: "v1", Kind: "ComponentStatus", Plural: "componentstatuses", Short: []string{"cs"},
	Columns: []api.Column[*corev1.ComponentStatus]{
		api.Text("Status", "Status of the component conditions", componentState),
		api.Text("Message", "Message of the component conditions", func(s *corev1.ComponentStatus) string { return componentHealth(s).Message }),
		api.Text("Error", "Error of the component conditions", func(s *corev1.ComponentStatus) string { return componentHealth(s).Error }),
	},
	Make: askComponents,
	List: func(all []*corev1.ComponentStatus) runtime.Object {
		list := &corev1.ComponentStatusList{Items: make([]corev1.ComponentStatus, 0, len(all))}
		for _, one := range all {
			item := *one
			item.TypeMeta = metav1.TypeMeta{}
			list.Items = append(list.Items, item)
		}
		return list
	},
})

// componentTime is how long a component may take to answer.
const componentTime = 20 * time.Second

// askComponents asks all components, or the one of a name, side by side.
func askComponents(ctx context.Context, env *api.Env, ask api.Ask) ([]*corev1.ComponentStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, componentTime)
	defer cancel()
	var all []*corev1.ComponentStatus
	var group sync.WaitGroup
	for _, c := range env.Components {
		if ask.Name != "" && c.Name != ask.Name {
			continue
		}
		s := &corev1.ComponentStatus{ObjectMeta: metav1.ObjectMeta{Name: c.Name}}
		all = append(all, s)
		group.Go(func() { s.Conditions = []corev1.ComponentCondition{askComponent(ctx, c)} })
	}
	group.Wait()
	return all, nil
}

func askComponent(ctx context.Context, c api.Component) corev1.ComponentCondition {
	status, err := c.Check(ctx)
	health := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: status}
	switch {
	case err != nil:
		health.Error = err.Error()
	case status == corev1.ConditionTrue:
		health.Message = "ok"
	}
	return health
}

// componentHealth is the condition that is shown; the zero one when there is none.
func componentHealth(s *corev1.ComponentStatus) corev1.ComponentCondition {
	for _, c := range s.Conditions {
		if c.Type == corev1.ComponentHealthy {
			return c
		}
	}
	return corev1.ComponentCondition{}
}

func componentState(s *corev1.ComponentStatus) string {
	switch componentHealth(s).Status {
	case "":
		return "Unknown"
	case corev1.ConditionTrue:
		return "Healthy"
	}
	return "Unhealthy"
}
