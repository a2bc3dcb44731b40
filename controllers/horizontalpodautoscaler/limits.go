package horizontalpodautoscaler

import (
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// change is a number of replicas that was wished for or done at a time.
type change struct {
	n  int32
	at time.Time
}

// history is what was decided of late on one autoscaler: the wishes, and how many replicas
// were added and taken away. It is lost with the process, which then is a little bolder.
type history struct{ wishes, ups, downs []change }

// since gives those younger than d.
func since(list []change, d time.Duration, now time.Time) []change {
	var kept []change
	for _, c := range list {
		if c.at.Add(d).After(now) {
			kept = append(kept, c)
		}
	}
	return kept
}

func sum(list []change) int32 {
	var n int32
	for _, c := range list {
		n += c.n
	}
	return n
}

// longest is the most that policies and windows may look back.
const longest = time.Hour

func (h *history) trim(now time.Time) {
	h.wishes, h.ups, h.downs = since(h.wishes, longest, now), since(h.ups, longest, now), since(h.downs, longest, now)
}

// done notes that replicas went from one number to another.
func (h *history) done(from, to int32, now time.Time) {
	if to > from {
		h.ups = append(h.ups, change{to - from, now})
	} else {
		h.downs = append(h.downs, change{from - to, now})
	}
}

// rules are the behaviour with all that is left open filled in.
func rules(b *autoscalingv2.HorizontalPodAutoscalerBehavior) (up, down autoscalingv2.HPAScalingRules) {
	most, none, five := autoscalingv2.MaxChangePolicySelect, int32(0), int32(300)
	up = autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &none, SelectPolicy: &most, Policies: []autoscalingv2.HPAScalingPolicy{
		{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15}, {Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
	}}
	down = autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &five, SelectPolicy: &most, Policies: []autoscalingv2.HPAScalingPolicy{
		{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
	}}
	fill := func(to *autoscalingv2.HPAScalingRules, from *autoscalingv2.HPAScalingRules) {
		if from == nil {
			return
		}
		if from.StabilizationWindowSeconds != nil {
			to.StabilizationWindowSeconds = from.StabilizationWindowSeconds
		}
		if from.SelectPolicy != nil {
			to.SelectPolicy = from.SelectPolicy
		}
		if len(from.Policies) > 0 {
			to.Policies = from.Policies
		}
	}
	if b != nil {
		fill(&up, b.ScaleUp)
		fill(&down, b.ScaleDown)
	}
	return up, down
}

// outcome is a number of replicas with the reason and message of the condition that tells why.
type outcome struct {
	n               int32
	reason, message string
}

// stabilized keeps a wish within what was wished for of late: not above the least wish of
// the window for going up, not below the greatest of the one for going down.
func (h *history) stabilized(current, wish int32, b *autoscalingv2.HorizontalPodAutoscalerBehavior, now time.Time) outcome {
	up, down := rules(b)
	least, greatest := wish, wish
	for _, c := range since(h.wishes, time.Duration(*up.StabilizationWindowSeconds)*time.Second, now) {
		least = min(least, c.n)
	}
	for _, c := range since(h.wishes, time.Duration(*down.StabilizationWindowSeconds)*time.Second, now) {
		greatest = max(greatest, c.n)
	}
	h.wishes = append(h.wishes, change{wish, now})
	n := min(max(current, least), greatest)
	switch {
	case n > wish:
		return outcome{n, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"}
	case n < wish:
		return outcome{n, "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"}
	}
	return outcome{n, "ReadyForNewScale", "recommended size matches current size"}
}

// limited keeps a wish within the policies and the bounds of the autoscaler.
func (h *history) limited(current, wish, least, most int32, b *autoscalingv2.HorizontalPodAutoscalerBehavior, now time.Time) outcome {
	up, down := rules(b)
	switch {
	case wish > current:
		limit := max(h.limit(current, up, 1, now), current)
		if most > limit && wish > limit {
			return outcome{limit, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"}
		}
		if wish > most {
			return outcome{most, "TooManyReplicas", "the desired replica count is more than the maximum replica count"}
		}
	case wish < current:
		limit := min(h.limit(current, down, -1, now), current)
		if least < limit && wish < limit {
			return outcome{limit, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"}
		}
		if wish < least {
			return outcome{least, "TooFewReplicas", "the desired replica count is less than the minimum replica count"}
		}
	}
	return outcome{wish, withinRange, "the desired count is within the acceptable range"}
}

const withinRange = "DesiredWithinRange"

// limit is how far the policies let replicas go from here, up (1) or down (-1), counting
// what was done within their periods.
func (h *history) limit(current int32, r autoscalingv2.HPAScalingRules, direction int, now time.Time) int32 {
	if *r.SelectPolicy == autoscalingv2.DisabledPolicySelect {
		return current
	}
	var found []int32
	for _, p := range r.Policies {
		period := time.Duration(p.PeriodSeconds) * time.Second
		start := current - sum(since(h.ups, period, now)) + sum(since(h.downs, period, now))
		switch {
		case p.Type == autoscalingv2.PodsScalingPolicy:
			found = append(found, ceil(float64(start)+float64(direction)*float64(p.Value)))
		case direction > 0:
			found = append(found, ceil(float64(start)*(1+float64(p.Value)/100)))
		default:
			found = append(found, int32(math.Max(0, float64(start)*(1-float64(p.Value)/100))))
		}
	}
	if len(found) == 0 {
		return current
	}
	// The policy that changes most, or least.
	far := (*r.SelectPolicy == autoscalingv2.MaxChangePolicySelect) == (direction > 0)
	out := found[0]
	for _, n := range found[1:] {
		if far {
			out = max(out, n)
		} else {
			out = min(out, n)
		}
	}
	return out
}
