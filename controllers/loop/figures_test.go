package loop

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// The loops of a server are made again each time that it leads.
func TestCounterOfALoopThatIsMadeAgain(t *testing.T) {
	deps := Deps{Figures: prometheus.NewRegistry()}
	first, err := deps.Counter("a_total", "A.", "x")
	if err != nil {
		t.Fatal(err)
	}
	again, err := deps.Counter("a_total", "A.", "x")
	if err != nil || first != again {
		t.Errorf("%v, the same: %v", err, first == again)
	}
	if _, err := deps.Counter("a_total", "Another.", "y"); err == nil {
		t.Error("two counters have one name")
	}
}
