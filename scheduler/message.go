package scheduler

import (
	"fmt"
	"sort"
	"strings"
)

// message says why no node will do, in the words users know.
func (d decision) message() string {
	if d.total == 0 {
		return "no nodes available to schedule pods"
	}
	reasons := make([]string, 0, len(d.counts))
	for reason, n := range d.counts {
		reasons = append(reasons, fmt.Sprintf("%d %s", n, reason))
	}
	sort.Strings(reasons)
	text := fmt.Sprintf("0/%d nodes are available: %s.", d.total, strings.Join(reasons, ", "))
	// What evicting others could do: nothing on nodes that refuse the pod for what they are.
	var helps []string
	if d.stuck > 0 {
		helps = append(helps, fmt.Sprintf("%d Preemption is not helpful for scheduling", d.stuck))
	}
	if rest := d.total - d.stuck; rest > 0 {
		helps = append(helps, fmt.Sprintf("%d No preemption victims found for incoming pod", rest))
	}
	return fmt.Sprintf("%s preemption: 0/%d nodes are available: %s.", text, d.total, strings.Join(helps, ", "))
}

// wakes are the changes that may let the pod fit.
func (d decision) wakes() change {
	c := nodeChanged
	for reason := range d.counts {
		switch {
		case strings.HasPrefix(reason, "Insufficient"), reason == "Too many pods", strings.Contains(reason, "free ports"):
			c |= podLeft
		case reason == reasonSpread, reason == reasonAffinity, reason == reasonAntiAffinity, reason == reasonExistingAnti:
			c |= podLeft | podCame | namespaceChanged
		}
	}
	return c
}
