package admission

import "time"

// Phase of admission, as metrics name it.
type Phase string

// The phases.
const (
	Admit    Phase = "admit"
	Validate Phase = "validate"
)

// Observer is told how long admission takes. Its methods are called from the request's
// goroutine, but for Webhook: those that judge are asked side by side.
type Observer interface {
	// Phase is all steps of a phase together.
	Phase(phase Phase, op Operation, rejected bool, took time.Duration)
	// Step is one of them.
	Step(name string, phase Phase, op Operation, rejected bool, took time.Duration)
	Webhook(WebhookCall)
}

// WebhookCall is one question to a webhook.
type WebhookCall struct {
	Name      string
	Phase     Phase
	Operation Operation
	Code      int  // of HTTP, as the webhook's answer has it; 0: there was none
	Rejected  bool // the request is refused because of it
	Failed    bool // no answer, or one that is none
	// FailedOpen: it failed, and the request passes.
	FailedOpen bool
	Took       time.Duration
}

// stopwatch measures the steps of a phase, one reading of the clock for each.
type stopwatch struct {
	a     *Attributes
	phase Phase
	last  time.Time
}

func (w *stopwatch) start() time.Time {
	if w.a.Observer != nil {
		w.last = time.Now()
	}
	return w.last
}

func (w *stopwatch) lap(name string, rejected bool) {
	if w.a.Observer == nil {
		return
	}
	before := w.last
	w.last = time.Now()
	w.a.Observer.Step(name, w.phase, w.a.Operation, rejected, w.last.Sub(before))
}
