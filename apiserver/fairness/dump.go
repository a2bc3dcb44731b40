package fairness

import (
	"fmt"
	"net/http"
	"text/tabwriter"
)

// DumpPath is where an administrator sees the state of the priority levels.
const DumpPath = "/debug/api_priority_and_fairness/dump_priority_levels"

// Dump answers a table of the priority levels, in the form that Kubernetes documents.
func (f *Fairness) Dump(w http.ResponseWriter, _ *http.Request) {
	sums := map[string]*Schema{}
	for _, s := range f.Schemas() {
		sum := sums[s.Level]
		if sum == nil {
			sum = &Schema{}
			sums[s.Level] = sum
		}
		sum.Dispatched += s.Dispatched
		sum.RejectedFull += s.RejectedFull + s.RejectedLimit
		sum.RejectedTime += s.RejectedTime
		sum.Cancelled += s.Cancelled
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	table := tabwriter.NewWriter(w, 8, 0, 1, ' ', 0)
	fmt.Fprintln(table, "PriorityLevelName,\tActiveQueues,\tIsIdle,\tIsQuiescing,\tWaitingRequests,\tExecutingRequests,\tDispatchedRequests,\tRejectedRequests,\tTimedoutRequests,\tCancelledRequests")
	for _, l := range f.Levels() {
		sum := sums[l.Name]
		if sum == nil {
			sum = &Schema{}
		}
		fmt.Fprintf(table, "%s,\t%d,\t%t,\t%t,\t%d,\t%d,\t%d,\t%d,\t%d,\t%d\n", l.Name, l.Queues, l.Waiting == 0 && l.Running == 0, l.Retired,
			l.Waiting, l.Running, sum.Dispatched, sum.RejectedFull, sum.RejectedTime, sum.Cancelled)
	}
	_ = table.Flush() // a client that went away
}
