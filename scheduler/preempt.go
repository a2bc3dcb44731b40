package scheduler

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
)

// How many nodes are looked at for victims: a share of those that might do, but not fewer
// than so many.
const (
	candidatePercent = 10
	leastCandidates  = 100
)

// candidate is a node that would take a pod if the victims were evicted from it.
type candidate struct {
	node       string
	victims    []*corev1.Pod // the most important first; never empty
	violations int           // victims that a disruption budget protects
	displaced  []*corev1.Pod // less important pods that were nominated to the node
}

// budget is a disruption budget, its selector read.
type budget struct {
	*policyv1.PodDisruptionBudget
	selector labels.Selector
}

func readBudgets(all []*policyv1.PodDisruptionBudget) []budget {
	var read []budget
	for _, b := range all {
		if selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil && !selector.Empty() {
			read = append(read, budget{b, selector})
		}
	}
	return read
}

// mayPreempt says whether there is anything to look at.
func (s *state) mayPreempt(p *placement, why *refusals) bool {
	if len(why.open) == 0 || s.notEligible(p, why) != "" {
		return false
	}
	for priority, n := range s.priorities {
		if n > 0 && priority < p.priority {
			return true
		}
	}
	return false
}

// preempt looks for a node that would take the pod if less important pods were evicted; nil
// when there is none. The message says what came of it, in the words users know; nominee is
// the node that the pod waits for from now on.
func (s *state) preempt(p *placement, why *refusals, budgets []budget, rnd *rand.Rand) (best *candidate, message, nominee string) {
	if reason := s.notEligible(p, why); reason != "" {
		return nil, "preemption: " + reason, s.nominated.nodeFor(p.pod)
	}
	m := s.memoOf(p)
	if m != nil && m.hopeless != "" && m.priority == p.priority {
		return nil, m.hopeless, ""
	}
	found, refused := s.candidates(p, why, budgets, rnd)
	if len(found) == 0 {
		if helpless := s.nodeCount - len(why.open); helpless > 0 {
			refused["Preemption is not helpful for scheduling"] = helpless
		}
		message = "preemption: " + unavailable(s.nodeCount, refused)
		if m != nil {
			m.priority, m.hopeless = p.priority, message
		}
		return nil, message, ""
	}
	best = slices.MinFunc(found, cheaper)
	best.displaced = s.nominated.behind(p, best.node)
	return best, fmt.Sprintf("preemption: found a potential placement for pod on node %s, preempting %d victims", best.node, len(best.victims)), best.node
}

// candidates tries the nodes that might do, from a random one on; refused counts the others
// by reason.
func (s *state) candidates(p *placement, why *refusals, budgets []budget, rnd *rand.Rand) (found []*candidate, refused map[string]int) {
	refused = map[string]int{}
	n := len(why.open)
	if !s.mayPreempt(p, why) {
		if n > 0 {
			refused[noVictims] = n
		}
		return nil, refused
	}
	wanted := min(n, max(leastCandidates, n*candidatePercent/100))
	offset, clean := rnd.IntN(n), false
	for k := range n {
		c, reasons := s.victimsOn(p, int(why.open[(offset+k)%n]), budgets)
		if c == nil {
			for _, reason := range reasons {
				refused[reason]++
			}
			continue
		}
		found = append(found, c)
		if clean = clean || c.violations == 0; clean && len(found) >= wanted {
			break
		}
	}
	return found, refused
}

const noVictims = "No preemption victims found for incoming pod"

// notEligible says why the pod may not preempt now, "" when it may.
func (s *state) notEligible(p *placement, why *refusals) string {
	if p.pod.Spec.PreemptionPolicy != nil && *p.pod.Spec.PreemptionPolicy == corev1.PreemptNever {
		return "not eligible due to preemptionPolicy=Never."
	}
	i, known := s.index[s.nominated.nodeFor(p.pod)]
	if !known || !slices.Contains(why.open, int32(i)) {
		return ""
	}
	for _, c := range s.podsOnNode[i] {
		if corehelpers.PodPriority(c.pod) < p.priority && goingForPreemption(c.pod) {
			return "not eligible due to a terminating pod on the nominated node."
		}
	}
	return ""
}

func goingForPreemption(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler
	})
}

// victimsOn takes all less important pods off a node; when it takes the pod then, as many
// of them as possible are put back, those that budgets protect first, then the most
// important. The node is counted as before when it returns.
func (s *state) victimsOn(p *placement, i int, budgets []budget) (*candidate, []string) {
	var potential []*counted
	for _, c := range s.podsOnNode[i] {
		if corehelpers.PodPriority(c.pod) < p.priority {
			potential = append(potential, c)
		}
	}
	if len(potential) == 0 {
		return nil, []string{noVictims}
	}
	s.trying = true
	defer func() { s.trying = false }()
	slices.SortFunc(potential, moreImportant)
	for _, c := range potential {
		s.count(i, c, -1)
	}
	reasons, _ := s.why(p, i, s.ask(p))
	if len(reasons) == 0 {
		reasons, _ = s.whyBesideNominated(p, i)
	}
	if len(reasons) > 0 {
		for _, c := range potential {
			s.count(i, c, 1)
		}
		return nil, reasons
	}
	found := &candidate{node: s.nodes[i].Name}
	protected, others := splitProtected(potential, budgets)
	var victims []*counted
	for n, c := range append(protected, others...) {
		s.count(i, c, 1)
		if s.takes(p, i) {
			continue
		}
		s.count(i, c, -1)
		victims = append(victims, c)
		if n < len(protected) {
			found.violations++
		}
	}
	slices.SortStableFunc(victims, moreImportant)
	for _, c := range victims {
		s.count(i, c, 1)
		found.victims = append(found.victims, c.pod)
	}
	if len(victims) == 0 {
		return nil, []string{fmt.Sprintf("expected at least one victim pod on node %q", found.node)}
	}
	return found, nil
}

// splitProtected tells the pods whose eviction a budget does not allow from the others,
// keeping their order.
func splitProtected(pods []*counted, budgets []budget) (protected, others []*counted) {
	allowed := make([]int32, len(budgets))
	for n, b := range budgets {
		allowed[n] = b.Status.DisruptionsAllowed
	}
	for _, c := range pods {
		violates := false
		for n, b := range budgets {
			if b.Namespace != c.pod.Namespace || len(c.pod.Labels) == 0 || !b.selector.Matches(labels.Set(c.pod.Labels)) {
				continue
			}
			if _, counted := b.Status.DisruptedPods[c.pod.Name]; counted {
				continue // the budget has taken note of its eviction
			}
			if allowed[n]--; allowed[n] < 0 {
				violates = true
				break
			}
		}
		if violates {
			protected = append(protected, c)
		} else {
			others = append(others, c)
		}
	}
	return protected, others
}

// moreImportant orders by priority, then by how long a pod runs.
func moreImportant(a, b *counted) int {
	if c := cmp.Compare(corehelpers.PodPriority(b.pod), corehelpers.PodPriority(a.pod)); c != 0 {
		return c
	}
	if c := startOf(a.pod).Compare(startOf(b.pod)); c != 0 {
		return c
	}
	return cmp.Compare(a.pod.UID, b.pod.UID)
}

// startOf is when a pod started; one that has not counts as started last.
func startOf(pod *corev1.Pod) time.Time {
	if pod.Status.StartTime == nil {
		return time.Unix(math.MaxInt32, 0)
	}
	return pod.Status.StartTime.Time
}

// cheaper orders candidates: fewer protected victims, a less important most important
// victim, less importance in sum, fewer victims, the most important ones started later.
func cheaper(a, b *candidate) int {
	return cmp.Or(
		cmp.Compare(a.violations, b.violations),
		cmp.Compare(corehelpers.PodPriority(a.victims[0]), corehelpers.PodPriority(b.victims[0])),
		cmp.Compare(a.importance(), b.importance()),
		cmp.Compare(len(a.victims), len(b.victims)),
		b.earliest().Compare(a.earliest()),
	)
}

// importance is the sum of priorities, each made positive.
func (c *candidate) importance() int64 {
	var sum int64
	for _, v := range c.victims {
		sum += int64(corehelpers.PodPriority(v)) + math.MaxInt32 + 1
	}
	return sum
}

// earliest is when the first of the most important victims started.
func (c *candidate) earliest() time.Time {
	first := startOf(c.victims[0])
	for _, v := range c.victims {
		if corehelpers.PodPriority(v) == corehelpers.PodPriority(c.victims[0]) && startOf(v).Before(first) {
			first = startOf(v)
		}
	}
	return first
}
