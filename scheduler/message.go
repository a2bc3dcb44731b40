package scheduler

import (
	"fmt"
	"sort"
	"strings"
)

// message says why no node will do, in the words users know; preemption is what evicting
// others came to.
func (d decision) message(preemption string) string {
	if d.total == 0 {
		return "no nodes available to schedule pods"
	}
	text := ""
	if d.why.first != "" {
		text = fmt.Sprintf("0/%d nodes are available: %s.", d.total, d.why.first)
	} else {
		text = unavailable(d.total, d.why.counts)
	}
	if preemption != "" {
		text += " " + preemption
	}
	return text
}

// unavailable counts nodes by reason.
func unavailable(total int, counts map[string]int) string {
	reasons := make([]string, 0, len(counts))
	for reason, n := range counts {
		reasons = append(reasons, fmt.Sprintf("%d %s", n, reason))
	}
	sort.Strings(reasons)
	text := fmt.Sprintf("0/%d nodes are available:", total)
	if len(reasons) > 0 {
		text += " " + strings.Join(reasons, ", ") + "."
	}
	return text
}
