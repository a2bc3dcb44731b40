package replicaset

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

// A replication controller seen as a set keeps all that its status says, and its pods
// and events name it, not a set.
func TestControllerAsSet(t *testing.T) {
	n := int32(2)
	rc := &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Name: "rc", Namespace: "ns", UID: "u"},
		Spec:       corev1.ReplicationControllerSpec{Replicas: &n, Selector: map[string]string{"a": "b"}, Template: &corev1.PodTemplateSpec{}},
		Status: corev1.ReplicationControllerStatus{
			Replicas: 3, FullyLabeledReplicas: 2, ReadyReplicas: 1, AvailableReplicas: 1, ObservedGeneration: 7,
			Conditions: []corev1.ReplicationControllerCondition{{
				Type: corev1.ReplicationControllerReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "m", LastTransitionTime: metav1.NewTime(now.Add(-time.Hour)),
			}},
		},
	}
	rs := asSet(rc)
	if back := controllerStatus(rs.Status); !apiequality.Semantic.DeepEqual(back, rc.Status) {
		t.Errorf("%+v\nwant %+v", back, rc.Status)
	}
	pod := loop.PodFromTemplate(&rs.Spec.Template, rs, corev1.SchemeGroupVersion.WithKind("ReplicationController"))
	if o := metav1.GetControllerOf(pod); o == nil || o.Kind != "ReplicationController" || o.APIVersion != "v1" || o.UID != "u" || rs.Kind != "ReplicationController" {
		t.Errorf("%+v of %s", o, rs.Kind)
	}
	if got := controllerStatus(newStatus(rs, nil, 0, nil, now)); len(got.Conditions) != 0 || got.Replicas != 0 {
		t.Errorf("a failure that is over is still told: %+v", got)
	}
}
