package deployment

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/dump"
	"k8s.io/apimachinery/pkg/util/rand"
)

// Annotations of deployments and their sets.
const (
	revision        = "deployment.kubernetes.io/revision"
	revisionHistory = "deployment.kubernetes.io/revision-history"
	desiredReplicas = "deployment.kubernetes.io/desired-replicas"
	maxReplicas     = "deployment.kubernetes.io/max-replicas"
)

var ownAnnotations = []string{corev1.LastAppliedConfigAnnotation, revision, revisionHistory, desiredReplicas, maxReplicas, "deprecated.deployment.rollback.to"}

// templateHash names a template; collisions tells apart templates that hash alike.
func templateHash(t *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%v", dump.ForHash(*t))
	if collisions != nil {
		var b [8]byte
		binary.LittleEndian.PutUint32(b[:], uint32(*collisions))
		h.Write(b[:])
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

// sameTemplate compares templates but for the hash label that sets add.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	x, y := withoutHash(a), withoutHash(b)
	return equality.Semantic.DeepEqual(x, y)
}

func withoutHash(t *corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	c := *t
	c.Labels = maps.Clone(t.Labels)
	delete(c.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return c
}

// split tells the set of the present template, the oldest if several, from the old ones.
func split(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) (current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) {
	for _, rs := range sets {
		if sameTemplate(&rs.Spec.Template, &d.Spec.Template) && (current == nil || older(rs, current) < 0) {
			current = rs
		}
	}
	for _, rs := range sets {
		if rs != current {
			old = append(old, rs)
		}
	}
	return current, old
}

// newSet is the set for the present template.
func newSet(d *appsv1.Deployment, old []*appsv1.ReplicaSet, rev int64) *appsv1.ReplicaSet {
	hash := templateHash(&d.Spec.Template, d.Status.CollisionCount)
	template := d.Spec.Template.DeepCopy()
	template.Labels = with(template.Labels, hash)
	selector := d.Spec.Selector.DeepCopy()
	selector.MatchLabels = with(selector.MatchLabels, hash)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.Namespace, Name: d.Name + "-" + hash, Labels: maps.Clone(template.Labels),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, kind)},
		},
		Spec: appsv1.ReplicaSetSpec{MinReadySeconds: d.Spec.MinReadySeconds, Selector: selector, Template: *template},
	}
	n := grown(d, old, nil)
	rs.Spec.Replicas = &n
	annotate(d, rs, rev)
	return rs
}

func with(labels map[string]string, hash string) map[string]string {
	l := maps.Clone(labels)
	if l == nil {
		l = map[string]string{}
	}
	l[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	return l
}

// annotate gives a set the deployment's annotations, its size and its revision; a revision
// that it had before (a roll-back to it) goes into its history.
func annotate(d *appsv1.Deployment, rs *appsv1.ReplicaSet, rev int64) {
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	maps.Copy(rs.Annotations, inherited(d))
	was := revisionOf(rs.Annotations)
	if was < rev {
		rs.Annotations[revision] = strconv.FormatInt(rev, 10)
		if was > 0 {
			history := rs.Annotations[revisionHistory]
			if history != "" {
				history += ","
			}
			rs.Annotations[revisionHistory] = history + strconv.FormatInt(was, 10)
		}
	}
	annotateSize(d, rs)
}

func annotateSize(d *appsv1.Deployment, rs *appsv1.ReplicaSet) {
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	surge, _ := room(d)
	rs.Annotations[desiredReplicas] = strconv.Itoa(int(wanted(d)))
	rs.Annotations[maxReplicas] = strconv.Itoa(int(wanted(d) + surge))
}

// resized says whether the wish changed since the sets were last scaled.
func resized(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) bool {
	for _, rs := range sets {
		if wish(rs) == 0 {
			continue
		}
		n, err := strconv.Atoi(rs.Annotations[desiredReplicas])
		if err == nil && int32(n) != wanted(d) {
			return true
		}
	}
	return false
}
