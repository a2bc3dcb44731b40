package loop

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Counter makes a counter of a loop, which is told in /metrics; a loop that is made again goes
// on with the one that it had.
func (d Deps) Counter(name, help string, labels ...string) (*prometheus.CounterVec, error) {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	if d.Figures == nil {
		return c, nil
	}
	err := d.Figures.Register(c)
	var had prometheus.AlreadyRegisteredError
	if errors.As(err, &had) {
		if known, ok := had.ExistingCollector.(*prometheus.CounterVec); ok {
			return known, nil
		}
	}
	return c, err
}
