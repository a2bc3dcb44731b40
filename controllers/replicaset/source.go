package replicaset

import (
	"context"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/controllers/loop"
)

// source is where sets come from and where their status goes.
type source struct {
	name        string
	kind        schema.GroupVersionKind
	informer    cache.SharedIndexInformer
	list        func(namespace string) []*appsv1.ReplicaSet
	get         func(loop.Key) (*appsv1.ReplicaSet, error)
	present     func(context.Context, loop.Key) (metav1.Object, error) // what the server says
	same        func(a, b appsv1.ReplicaSetStatus) bool
	writeStatus func(context.Context, *appsv1.ReplicaSet) error // must not change the set
}

func replicaSets(deps loop.Deps) source {
	sets, client := deps.Informers.Apps().V1().ReplicaSets(), deps.Client.AppsV1()
	return source{
		name: "replicaset", kind: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), informer: sets.Informer(),
		list: func(namespace string) []*appsv1.ReplicaSet {
			all, err := sets.Lister().ReplicaSets(namespace).List(labels.Everything())
			if err != nil {
				return nil // the cache never fails
			}
			return all
		},
		get: func(k loop.Key) (*appsv1.ReplicaSet, error) {
			return sets.Lister().ReplicaSets(k.Namespace).Get(k.Name)
		},
		present: func(ctx context.Context, k loop.Key) (metav1.Object, error) {
			return client.ReplicaSets(k.Namespace).Get(ctx, k.Name, metav1.GetOptions{})
		},
		same: func(a, b appsv1.ReplicaSetStatus) bool { return reflect.DeepEqual(a, b) },
		writeStatus: func(ctx context.Context, rs *appsv1.ReplicaSet) error {
			_, err := client.ReplicaSets(rs.Namespace).UpdateStatus(ctx, rs, metav1.UpdateOptions{})
			return err
		},
	}
}

func replicationControllers(deps loop.Deps) source {
	controllers, client := deps.Informers.Core().V1().ReplicationControllers(), deps.Client.CoreV1()
	return source{
		name: "replication", kind: corev1.SchemeGroupVersion.WithKind("ReplicationController"), informer: controllers.Informer(),
		list: func(namespace string) []*appsv1.ReplicaSet {
			all, err := controllers.Lister().ReplicationControllers(namespace).List(labels.Everything())
			if err != nil {
				return nil // the cache never fails
			}
			sets := make([]*appsv1.ReplicaSet, 0, len(all))
			for _, rc := range all {
				sets = append(sets, asSet(rc))
			}
			return sets
		},
		get: func(k loop.Key) (*appsv1.ReplicaSet, error) {
			rc, err := controllers.Lister().ReplicationControllers(k.Namespace).Get(k.Name)
			if err != nil {
				return nil, err
			}
			return asSet(rc), nil
		},
		present: func(ctx context.Context, k loop.Key) (metav1.Object, error) {
			return client.ReplicationControllers(k.Namespace).Get(ctx, k.Name, metav1.GetOptions{})
		},
		same: func(a, b appsv1.ReplicaSetStatus) bool {
			return reflect.DeepEqual(controllerStatus(a), controllerStatus(b))
		},
		writeStatus: func(ctx context.Context, rs *appsv1.ReplicaSet) error {
			// The spec is not written with the status; the server keeps its own.
			rc := &corev1.ReplicationController{ObjectMeta: rs.ObjectMeta, Status: controllerStatus(rs.Status)}
			rc.Spec = corev1.ReplicationControllerSpec{
				Replicas: rs.Spec.Replicas, MinReadySeconds: rs.Spec.MinReadySeconds, Selector: rs.Spec.Selector.MatchLabels, Template: &rs.Spec.Template,
			}
			_, err := client.ReplicationControllers(rs.Namespace).UpdateStatus(ctx, rc, metav1.UpdateOptions{})
			return err
		},
	}
}

// asSet shows a replication controller as a set. It names its own kind, which events and
// owner references take from it; it shares the cached object's parts.
func asSet(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ReplicationController"},
		ObjectMeta: rc.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{
			Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector: &metav1.LabelSelector{MatchLabels: rc.Spec.Selector},
		},
		Status: appsv1.ReplicaSetStatus{
			Replicas: rc.Status.Replicas, FullyLabeledReplicas: rc.Status.FullyLabeledReplicas, ReadyReplicas: rc.Status.ReadyReplicas,
			AvailableReplicas: rc.Status.AvailableReplicas, ObservedGeneration: rc.Status.ObservedGeneration,
		},
	}
	if rc.Spec.Template != nil {
		rs.Spec.Template = *rc.Spec.Template
	}
	for _, c := range rc.Status.Conditions {
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return rs
}

func controllerStatus(s appsv1.ReplicaSetStatus) corev1.ReplicationControllerStatus {
	out := corev1.ReplicationControllerStatus{
		Replicas: s.Replicas, FullyLabeledReplicas: s.FullyLabeledReplicas, ReadyReplicas: s.ReadyReplicas,
		AvailableReplicas: s.AvailableReplicas, ObservedGeneration: s.ObservedGeneration,
	}
	for _, c := range s.Conditions {
		out.Conditions = append(out.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return out
}
