package deployment

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

// rollout is one look at one deployment.
type rollout struct {
	*Controller
	was, d  *appsv1.Deployment // as the cache has it; a copy to change
	all     []*appsv1.ReplicaSet
	current *appsv1.ReplicaSet // nil until it is created
	old     []*appsv1.ReplicaSet
}

// step takes the next step, if there is one to take now.
func (r *rollout) step(ctx context.Context) error {
	if r.d.DeletionTimestamp != nil {
		return nil
	}
	now := r.deps.Clock.Now()
	pause(r.d, &r.d.Status, now)
	if r.d.Spec.Paused || resized(r.d, r.all) {
		return r.resize(ctx)
	}
	if r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return r.recreate(ctx)
	}
	if err := r.ensureCurrent(ctx); err != nil || r.current == nil {
		return err
	}
	if s, yes := rollNew(r.d, r.all, r.current); yes {
		return r.scale(ctx, s)
	}
	if steps := rollOld(r.d, r.all, r.old, r.current); len(steps) > 0 {
		return r.scaleAll(ctx, steps)
	}
	return r.cleanUp(ctx)
}

// resize follows a change of the wish without moving the roll-out.
func (r *rollout) resize(ctx context.Context) error {
	if r.current != nil {
		if err := r.ensureCurrent(ctx); err != nil {
			return err
		}
	}
	if err := r.scaleAll(ctx, proportional(r.d, r.all, r.current)); err != nil {
		return err
	}
	if r.d.Spec.Paused {
		return r.cleanUp(ctx)
	}
	return nil
}

// recreate ends all old pods before it makes new ones.
func (r *rollout) recreate(ctx context.Context) error {
	var steps []scale
	left := false
	for _, rs := range r.old {
		if wish(rs) > 0 {
			steps = append(steps, scale{rs, 0})
		}
		left = left || rs.Status.Replicas > 0 || deref(rs.Status.TerminatingReplicas) > 0 || rs.Generation > rs.Status.ObservedGeneration
	}
	if len(steps) > 0 {
		return r.scaleAll(ctx, steps)
	}
	if left {
		return nil
	}
	if err := r.ensureCurrent(ctx); err != nil || r.current == nil {
		return err
	}
	if wish(r.current) != wanted(r.d) {
		return r.scale(ctx, scale{r.current, wanted(r.d)})
	}
	return r.cleanUp(ctx)
}

// ensureCurrent makes the set of the present template, or brings what it carries up to date.
func (r *rollout) ensureCurrent(ctx context.Context) error {
	rev := int64(0)
	for _, rs := range r.old {
		rev = max(rev, revisionOf(rs.Annotations))
	}
	rev++
	if r.current == nil {
		return r.create(ctx, newSet(r.d, r.old, rev))
	}
	changed := r.current.DeepCopy()
	annotate(r.d, changed, rev)
	// The size is written when the set is scaled: it tells that the wish changed.
	for _, key := range []string{desiredReplicas, maxReplicas} {
		if v, there := r.current.Annotations[key]; there {
			changed.Annotations[key] = v
		}
	}
	changed.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
	if !equality.Semantic.DeepEqual(r.current, changed) {
		made, err := r.update(ctx, changed)
		if err != nil {
			return err
		}
		r.replace(made)
	}
	if hasDeadline(r.d) && condition(&r.d.Status, appsv1.DeploymentProgressing) == nil {
		setCondition(&r.d.Status, r.deps.Clock.Now(), appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonFound,
			fmt.Sprintf("Found new replica set %q", r.current.Name))
	}
	return r.showRevision(ctx)
}

// replace puts a newer state of a set in the place of the one there is.
func (r *rollout) replace(made *appsv1.ReplicaSet) {
	for _, list := range [][]*appsv1.ReplicaSet{r.all, r.old} {
		for i := range list {
			if list[i].UID == made.UID && list[i].Name == made.Name {
				list[i] = made
			}
		}
	}
	if r.current != nil && r.current.UID == made.UID && r.current.Name == made.Name {
		r.current = made
	}
}

func (r *rollout) create(ctx context.Context, rs *appsv1.ReplicaSet) error {
	client, now := r.deps.Client.AppsV1().ReplicaSets(rs.Namespace), r.deps.Clock.Now()
	made, err := client.Create(ctx, rs, metav1.CreateOptions{})
	existed := apierrors.IsAlreadyExists(err)
	switch {
	case existed:
		there, failed := client.Get(ctx, rs.Name, metav1.GetOptions{})
		if failed != nil {
			return failed
		}
		if !metav1.IsControlledBy(there, r.d) || !sameTemplate(&there.Spec.Template, &r.d.Spec.Template) {
			// Another template has the same hash: the next attempt hashes to another.
			n := deref(r.d.Status.CollisionCount) + 1
			r.d.Status.CollisionCount = &n
			return err
		}
		made = there
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case err != nil:
		message := fmt.Sprintf("Failed to create new replica set %q: %v", rs.Name, err)
		setCondition(&r.d.Status, now, appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonCreateError, message)
		r.recorder.Event(r.d, corev1.EventTypeWarning, reasonCreateError, message)
		return err
	}
	r.wrote(made)
	if !existed && wish(made) > 0 {
		r.recorder.Eventf(r.d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", made.Name, wish(made))
	}
	r.current, r.all = made, append(r.all, made)
	if hasDeadline(r.d) && !existed {
		setCondition(&r.d.Status, now, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonCreated, fmt.Sprintf("Created new replica set %q", made.Name))
	}
	return r.showRevision(ctx)
}

// showRevision writes the revision that is rolled out to the deployment's annotation.
func (r *rollout) showRevision(ctx context.Context) error {
	rev := strconv.FormatInt(revisionOf(r.current.Annotations), 10)
	if r.d.Annotations[revision] == rev {
		return nil
	}
	changed := r.was.DeepCopy()
	if changed.Annotations == nil {
		changed.Annotations = map[string]string{}
	}
	changed.Annotations[revision] = rev
	made, err := r.deps.Client.AppsV1().Deployments(changed.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
	if err != nil {
		return loop.Gone(err)
	}
	r.d.Annotations, r.d.ResourceVersion = made.Annotations, made.ResourceVersion
	return nil
}

func (r *rollout) scaleAll(ctx context.Context, steps []scale) error {
	for _, s := range steps {
		if err := r.scale(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (r *rollout) scale(ctx context.Context, s scale) error {
	changed, from := s.set.DeepCopy(), wish(s.set)
	changed.Spec.Replicas = &s.to
	annotateSize(r.d, changed)
	if equality.Semantic.DeepEqual(changed, s.set) {
		return nil
	}
	made, err := r.update(ctx, changed)
	if err != nil {
		return err
	}
	r.replace(made)
	if s.to == from {
		return nil
	}
	direction := "up"
	if s.to < from {
		direction = "down"
	}
	r.recorder.Eventf(r.d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", direction, made.Name, from, s.to)
	return nil
}

// cleanUp deletes old sets beyond the history, once the roll-out is complete.
func (r *rollout) cleanUp(ctx context.Context) error {
	if limit := r.d.Spec.RevisionHistoryLimit; limit == nil || *limit == math.MaxInt32 {
		return nil
	}
	if !r.d.Spec.Paused && !complete(r.d, &r.was.Status) {
		return nil
	}
	for _, rs := range outdated(r.d, r.old) {
		err := r.deps.Client.AppsV1().ReplicaSets(rs.Namespace).Delete(ctx, rs.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(rs.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// finish counts what there is now and gives when to look again; 0: when something changes.
func (r *rollout) finish() time.Duration {
	now := r.deps.Clock.Now()
	r.d.Status = count(r.d, r.all, r.current, now)
	if r.d.DeletionTimestamp == nil && !r.d.Spec.Paused {
		// Compared with what was written last: that is what moved means.
		with := *r.d
		with.Status = r.was.Status
		progress(&with, &r.d.Status, r.all, r.current, now)
	}
	return untilDeadline(r.d, &r.d.Status, now)
}

func (r *rollout) writeStatus(ctx context.Context) error {
	slices.SortStableFunc(r.d.Status.Conditions, func(a, b appsv1.DeploymentCondition) int {
		return order(a.Type) - order(b.Type)
	})
	if equality.Semantic.DeepEqual(r.was.Status, r.d.Status) {
		return nil
	}
	_, err := r.deps.Client.AppsV1().Deployments(r.d.Namespace).UpdateStatus(ctx, r.d, metav1.UpdateOptions{})
	return loop.Gone(err)
}

// order keeps conditions from changing places at every write.
func order(kind appsv1.DeploymentConditionType) int {
	return slices.Index([]appsv1.DeploymentConditionType{appsv1.DeploymentAvailable, appsv1.DeploymentReplicaFailure, appsv1.DeploymentProgressing}, kind)
}
