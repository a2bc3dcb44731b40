package loop

import "github.com/prometheus/client_golang/prometheus"

// Counter is one that counts since the start, by labels; it is registered where that is wanted.
func (d Deps) Counter(name, help string, labels ...string) (*prometheus.CounterVec, error) {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	if d.Figures == nil {
		return c, nil
	}
	return c, d.Figures.Register(c)
}
