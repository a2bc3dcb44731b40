package deployment

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// scale is a number of replicas to give to a set.
type scale struct {
	set *appsv1.ReplicaSet
	to  int32
}

func deref(n *int32) int32 {
	if n == nil {
		return 0
	}
	return *n
}

func wish(rs *appsv1.ReplicaSet) int32 { return deref(rs.Spec.Replicas) }

// total sums something of the sets; nil sets count nothing.
func total(sets []*appsv1.ReplicaSet, of func(*appsv1.ReplicaSet) int32) int32 {
	var sum int32
	for _, rs := range sets {
		if rs != nil {
			sum += of(rs)
		}
	}
	return sum
}

func available(rs *appsv1.ReplicaSet) int32 { return rs.Status.AvailableReplicas }
func running(rs *appsv1.ReplicaSet) int32   { return rs.Status.Replicas }

// room is how far the strategy lets a deployment go above and below its wish. When both
// come out as nothing, one pod may be missing: else nothing could move.
func room(d *appsv1.Deployment) (surge, unavailable int32) {
	r := d.Spec.Strategy.RollingUpdate
	if d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || r == nil || wanted(d) == 0 {
		return 0, 0
	}
	surge, unavailable = share(r.MaxSurge, wanted(d), true), share(r.MaxUnavailable, wanted(d), false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, min(unavailable, wanted(d))
}

func share(v *intstr.IntOrString, of int32, up bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(v, intstr.FromInt32(0)), int(of), up)
	if err != nil {
		return 0 // refused by validation
	}
	return int32(n)
}

func wanted(d *appsv1.Deployment) int32 { return deref(d.Spec.Replicas) }

// grown is the number that the new set may have now.
func grown(d *appsv1.Deployment, all []*appsv1.ReplicaSet, current *appsv1.ReplicaSet) int32 {
	now := int32(0)
	if current != nil {
		now = wish(current)
	}
	if d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		return wanted(d)
	}
	surge, _ := room(d)
	left := wanted(d) + surge - total(all, wish)
	if left <= 0 {
		return now
	}
	return now + min(left, wanted(d)-now)
}

// rollNew is the next step of the new set; no step: false.
func rollNew(d *appsv1.Deployment, all []*appsv1.ReplicaSet, current *appsv1.ReplicaSet) (scale, bool) {
	if wish(current) == wanted(d) {
		return scale{}, false
	}
	to := wanted(d)
	if wish(current) < wanted(d) {
		to = grown(d, all, current)
	}
	return scale{current, to}, to != wish(current)
}

// rollOld are the next steps of the old sets: first pods that are not available anyway,
// then as many others as may be missing.
func rollOld(d *appsv1.Deployment, all, old []*appsv1.ReplicaSet, current *appsv1.ReplicaSet) []scale {
	if total(old, wish) == 0 {
		return nil
	}
	_, unavailable := room(d)
	least := wanted(d) - unavailable
	spare := total(all, wish) - least - (wish(current) - available(current))
	if spare <= 0 {
		return nil
	}
	to := map[*appsv1.ReplicaSet]int32{}
	sorted := slices.Clone(old)
	slices.SortStableFunc(sorted, older)
	for _, rs := range sorted {
		to[rs] = wish(rs)
		broken := min(spare, wish(rs)-available(rs))
		if wish(rs) == 0 || broken <= 0 {
			continue
		}
		to[rs] -= broken
		spare -= broken
	}
	free := total(all, available) - least
	for _, rs := range sorted {
		n := min(free, to[rs])
		if n <= 0 {
			continue
		}
		to[rs] -= n
		free -= n
	}
	var steps []scale
	for _, rs := range sorted {
		if to[rs] != wish(rs) {
			steps = append(steps, scale{rs, to[rs]})
		}
	}
	return steps
}

func older(a, b *appsv1.ReplicaSet) int {
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	return cmp.Compare(a.Name, b.Name)
}

// saturated says whether the new set alone already is what is wanted.
func saturated(d *appsv1.Deployment, rs *appsv1.ReplicaSet) bool {
	if rs == nil {
		return false
	}
	desired, err := strconv.Atoi(rs.Annotations[desiredReplicas])
	return err == nil && wish(rs) == wanted(d) && int32(desired) == wanted(d) && available(rs) == wanted(d)
}

// proportional spreads a change of the wish over the sets while a roll-out is under way or
// paused, each by its share; what rounding leaves goes to the largest.
func proportional(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, current *appsv1.ReplicaSet) []scale {
	active := slices.DeleteFunc(slices.Clone(sets), func(rs *appsv1.ReplicaSet) bool { return wish(rs) == 0 })
	if len(active) <= 1 {
		only := newest(sets)
		if len(active) == 1 {
			only = active[0]
		}
		if only == nil {
			return nil
		}
		return []scale{{only, wanted(d)}}
	}
	if saturated(d, current) {
		var steps []scale
		for _, rs := range active {
			if rs.UID != current.UID {
				steps = append(steps, scale{rs, 0})
			}
		}
		return steps
	}
	if d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		var steps []scale
		for _, rs := range active { // as they are: only noted to be seen to
			steps = append(steps, scale{rs, wish(rs)})
		}
		return steps
	}
	surge, _ := room(d)
	allowed := int32(0)
	if wanted(d) > 0 {
		allowed = wanted(d) + surge
	}
	return spread(d, active, allowed)
}

func spread(d *appsv1.Deployment, active []*appsv1.ReplicaSet, allowed int32) []scale {
	sum := total(active, wish)
	change := allowed - sum
	slices.SortStableFunc(active, func(a, b *appsv1.ReplicaSet) int {
		if c := cmp.Compare(wish(b), wish(a)); c != 0 {
			return c
		}
		if change > 0 {
			return older(b, a)
		}
		return older(a, b)
	})
	var steps []scale
	left := change
	for _, rs := range active {
		part := int32(0)
		if left != 0 {
			part = limit(shareOf(d, rs, allowed), left)
			left -= part
		}
		steps = append(steps, scale{rs, wish(rs) + part})
	}
	steps[0].to = max(0, steps[0].to+left)
	return steps
}

// shareOf is by how much a set changes when the whole goes from what it was to allowed.
func shareOf(d *appsv1.Deployment, rs *appsv1.ReplicaSet, allowed int32) int32 {
	before, err := strconv.Atoi(rs.Annotations[maxReplicas])
	if err != nil || before <= 0 {
		before = int(d.Status.Replicas)
	}
	if before <= 0 {
		return 0
	}
	exact := float64(wish(rs)) * float64(allowed) / float64(before)
	rounded := int32(exact + 0.5)
	return rounded - wish(rs)
}

// limit keeps a part between nothing and what is left, in its direction.
func limit(part, left int32) int32 {
	if left > 0 {
		return max(0, min(part, left))
	}
	return min(0, max(part, left))
}

func newest(sets []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	var found *appsv1.ReplicaSet
	for _, rs := range sets {
		if rs != nil && (found == nil || older(found, rs) < 0) {
			found = rs
		}
	}
	return found
}

// outdated are the old sets beyond the history that is kept, oldest first.
func outdated(d *appsv1.Deployment, old []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	if d.Spec.RevisionHistoryLimit == nil {
		return nil
	}
	live := slices.DeleteFunc(slices.Clone(old), func(rs *appsv1.ReplicaSet) bool { return rs.DeletionTimestamp != nil })
	slices.SortStableFunc(live, func(a, b *appsv1.ReplicaSet) int {
		if c := cmp.Compare(revisionOf(a.Annotations), revisionOf(b.Annotations)); c != 0 {
			return c
		}
		return older(a, b)
	})
	n := len(live) - int(*d.Spec.RevisionHistoryLimit)
	if n <= 0 {
		return nil
	}
	return slices.DeleteFunc(live[:n], func(rs *appsv1.ReplicaSet) bool {
		return rs.Status.Replicas != 0 || wish(rs) != 0 || rs.Generation > rs.Status.ObservedGeneration
	})
}

func revisionOf(annotations map[string]string) int64 {
	n, err := strconv.ParseInt(annotations[revision], 10, 64)
	if err != nil {
		return 0 // none
	}
	return n
}

// inherited are a deployment's annotations that its sets carry too.
func inherited(d *appsv1.Deployment) map[string]string {
	kept := maps.Clone(d.Annotations)
	maps.DeleteFunc(kept, func(key, _ string) bool { return slices.Contains(ownAnnotations, key) })
	return kept
}
